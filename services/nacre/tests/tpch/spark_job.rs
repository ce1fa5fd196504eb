//! The package with which Spark jobs publish, `integrations/spark`: its own tests, in one session, against this program on
//! a real S3 server.

use std::path::Path;
use std::process::{Command, Stdio};

use nacre_runtime::Context;
use nacre_store::{AwsCredentials, S3Settings, S3Store};

use crate::data::Data;
use crate::{runtime, told};

/// Stores in new places of two buckets, the second of which keeps versions.
fn stores(endpoint: &str) -> String {
    let settings = S3Settings {
        credentials: AwsCredentials::Keys {
            access_key: "test".into(),
            secret_key: "testtest".into(),
            session_token: None,
        },
        endpoint: Some(endpoint.to_owned()),
        allow_http: true,
        ..S3Settings::default()
    };
    let ctx = Context::system();
    let place = ctx.ids.random_u128();
    let urls = ["nacre-test", "nacre-test-versions"].map(|bucket| format!("s3://{bucket}/{place:032x}"));
    runtime().block_on(async {
        for url in &urls {
            let store = S3Store::open(url, &settings, &ctx).unwrap();
            store.create_bucket().await.unwrap();
            if url.contains("versions") {
                store.keep_versions().await.unwrap();
            }
        }
    });
    urls.join(" ")
}

#[test]
fn the_spark_job_publishes_what_it_is_given_and_nothing_twice() {
    let Some(data) = Data::get() else { return };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integrations/spark");
    let mut command = Command::new(std::env::var_os("NACRE_PYTHON").unwrap());
    command.args(["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=10", "tests"]);
    command.current_dir(folder).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("NACRE_") || name.starts_with("AWS_") {
            command.env_remove(&*name);
        }
    }
    // The servers of S3's protocol that run; the first is one that checks signatures.
    let endpoint = std::env::var("NACRE_TEST_S3_ENDPOINT").ok();
    let endpoint = endpoint.as_deref().and_then(|list| list.split_whitespace().next()?.split_once('='));
    match (endpoint, std::env::var_os("NACRE_TEST_SPARK_JARS")) {
        (Some((_, endpoint)), Some(jars)) => {
            command
                .env("NACRE_TEST_S3", endpoint)
                .env("NACRE_TEST_S3_STORES", stores(endpoint))
                .env("NACRE_TEST_SPARK_JARS", jars)
                .env("NACRE_TPCH_DATA", data.folder())
                .env("NACRE_PROGRAM", crate::server::program());
        }
        _ => println!(
            "NOTICE: packing alone is tested, NACRE_TEST_S3_ENDPOINT or NACRE_TEST_SPARK_JARS is not set (an S3 server, \
             and the jars with which Spark reaches it)"
        ),
    }
    let output = told("the Spark job's own tests", || command.output().unwrap());
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
}
