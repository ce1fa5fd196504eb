//! What is true of every request: ids, deadlines, methods, health, documents, shutdown, HTTP/2.

use std::time::Duration;

use nacre_store::testing::FaultRates;
use reqwest::{Client, Method, StatusCode};

use crate::harness::{Harness, TABLE, config, header, problem};

#[tokio::test]
async fn health_limits_metrics_and_documents_are_there() {
    let h = Harness::start().await;
    assert_eq!(h.get("/healthz").await.text().await.unwrap(), "ok\n");
    assert_eq!(h.get("/readyz").await.status(), StatusCode::OK);
    let limits = h.json("/v1/limits").await;
    assert_eq!((&limits["key_bytes"], &limits["value_bytes"]), (&2048.into(), &1_048_576.into()));
    let openapi = h.json("/openapi.json").await;
    assert!(openapi["paths"].as_object().unwrap().len() > 20);
    assert!(h.get("/docs").await.text().await.unwrap().contains("openapi.json"));
    let metrics = h.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("nacre_http_requests_in_flight 1") && !metrics.contains("# EOF"), "{metrics}");
}

#[tokio::test]
async fn a_scrape_answers_what_an_operator_asks_at_night() {
    let h = Harness::start().await;
    h.row("k", "some bytes that wait to be flushed").await;
    assert_eq!(h.get(&format!("{TABLE}/rows/absent")).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(
        h.get(&format!("{TABLE}/rows?reverse=maybe")).await.status(),
        StatusCode::UNPROCESSABLE_ENTITY
    );
    h.post_json(&format!("{TABLE}/loads"), r#"{"mode":"merge","version":"now"}"#).await;
    let metrics = h.get("/metrics").await.text().await.unwrap();
    let value = |sample: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {sample} in {metrics}")).parse().unwrap()
    };
    assert!(value("nacre_engine_tail_bytes{partition=\"0\"}") > 30.0, "{metrics}");
    assert!(value("nacre_engine_tail_bytes_max") > 1e6);
    assert!(value("nacre_engine_tail_offset{partition=\"0\"}") >= 1.0);
    assert_eq!(value("nacre_engine_loads{state=\"open\"}"), 1.0);
    assert_eq!(value("nacre_engine_tables"), 1.0);
    assert_eq!(value("nacre_engine_rows_written_total"), 1.0);
    assert_eq!(value("nacre_http_problems_total{status=\"422\",code=\"query-invalid\"}"), 1.0);
    assert!(!metrics.contains("row-absent"), "an absent row is no problem: {metrics}");
    value("nacre_cache_lookups_total{what=\"blocks\",found=\"memory\"}");
    value("nacre_cache_memory_bytes_max{what=\"indexes\"}");
    assert!(value("process_start_time_seconds") > 1e9);
    // Text format 0.0.4: a sample has its family's name, but for the parts of a histogram.
    let families: Vec<&str> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let plain = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        assert!(families.contains(&name) || plain.is_some_and(|name| families.contains(&name)), "{line}");
    }
}

#[tokio::test]
async fn what_comes_later_is_501_and_what_is_nothing_404_and_a_wrong_method_405() {
    let h = Harness::start().await;
    for path in ["/v1/jobs", "/console", "/v1/namespaces/default/usage"] {
        assert_eq!(problem(h.get(path).await).await.status, 501, "{path}");
    }
    for path in ["/snapshots", "/files", "/changes?from=1", ":truncate", ":undrop", "/:erase"] {
        assert_eq!(problem(h.get(&format!("{TABLE}{path}")).await).await.code(), "not-implemented", "{path}");
    }
    assert_eq!(problem(h.get(&format!("{TABLE}/rows/k?snapshot=s")).await).await.status, 501);
    assert_eq!(problem(h.get("/v2").await).await.code(), "path-not-found");
    let wrong = h.request(Method::PATCH, &format!("{TABLE}/rows/k")).send().await.unwrap();
    assert_eq!(header(&wrong, "allow"), "GET, HEAD, PUT, DELETE");
    assert_eq!(problem(wrong).await.status, 405);
}

#[tokio::test]
async fn a_request_keeps_its_plain_id_and_gets_one_otherwise() {
    let h = Harness::start().await;
    let ask = |id: &'static str| h.request(Method::GET, "/healthz").header("nacre-request-id", id).send();
    assert_eq!(header(&ask("job-7.a_B").await.unwrap(), "nacre-request-id"), "job-7.a_B");
    assert_eq!(header(&ask("no spaces").await.unwrap(), "nacre-request-id").len(), 32);
}

#[tokio::test]
async fn deadlines_and_priorities_are_checked() {
    let h = Harness::start().await;
    for (name, value) in [
        ("nacre-deadline-ms", "0"),
        ("nacre-deadline-ms", "60001"),
        ("nacre-deadline-ms", "x"),
        ("nacre-priority", "urgent"),
    ] {
        let asked =
            h.request(Method::GET, &format!("{TABLE}/rows/k")).header(name, value).send().await.unwrap();
        assert_eq!(problem(asked).await.code(), "header-invalid", "{name}: {value}");
    }
    let fine = h
        .request(Method::GET, &format!("{TABLE}/rows/k"))
        .header("nacre-deadline-ms", "60000")
        .header("nacre-priority", "low");
    assert_eq!(fine.send().await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn http_2_is_spoken_without_being_asked_for_twice() {
    let h = Harness::start().await;
    let client = Client::builder().http2_prior_knowledge().build().unwrap();
    let asks = (0..50).map(|n| {
        let (client, url) = (client.clone(), h.url(&format!("{TABLE}/rows/{n}")));
        async move {
            let put = client.put(&url).body(format!("v{n}")).send().await.unwrap();
            assert_eq!((put.status(), put.version()), (StatusCode::NO_CONTENT, reqwest::Version::HTTP_2));
            assert_eq!(client.get(&url).send().await.unwrap().text().await.unwrap(), format!("v{n}"));
            let head = client.head(&url).send().await.unwrap();
            assert_eq!(head.status(), StatusCode::OK);
        }
    });
    futures::future::join_all(asks).await;
}

#[tokio::test]
async fn requests_in_flight_finish_when_the_server_stops_and_nothing_new_is_taken() {
    let h = Harness::start().await;
    // A body whose second half is sent only once the server has been told to stop.
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let body = futures::stream::unfold((0, Some(receiver)), |(n, receiver)| async move {
        match (n, receiver) {
            (0, receiver) => Some((Ok::<_, std::io::Error>("first "), (1, receiver))),
            (1, Some(receiver)) => {
                let _ = receiver.await;
                Some((Ok("second"), (2, None)))
            }
            _ => None,
        }
    });
    let request = h.request(Method::PUT, &format!("{TABLE}/rows/k")).body(reqwest::Body::wrap_stream(body));
    let in_flight = h.ctx.tasks.spawn("client", request.send());
    while !h.get("/metrics").await.text().await.unwrap().contains("nacre_http_requests_in_flight 2") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The store's own tasks end with the context, so the write may be refused; it must be answered either way.
    h.ctx.tasks.shutdown();
    let refused = async {
        while Client::new().get(h.url("/healthz")).send().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap();
    sender.send(()).unwrap();
    let answered = in_flight.await.unwrap().unwrap();
    assert!(!header(&answered, "nacre-request-id").is_empty());
    tokio::time::timeout(Duration::from_secs(10), h.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn beyond_loopback_it_listens_only_if_told_that_anyone_may() {
    let h = Harness::start().await;
    let open = nacre_dispatcher::Config { listen: ([0, 0, 0, 0], 0).into(), ..config() };
    let bind = |config| {
        nacre_dispatcher::Server::bind(config, h.node.clone(), nacre_dispatcher::Reads::Here, h.ctx.clone())
    };
    let error = bind(open.clone()).await.unwrap_err();
    assert!(error.code() == "listen" && error.detail().contains("--anonymous"), "{error}");
    assert!(bind(nacre_dispatcher::Config { anonymous: true, ..open }).await.is_ok());
}

#[tokio::test]
async fn nothing_but_health_is_answered_before_the_log_is_read_to_its_end() {
    let (h, log) = Harness::with_log_away().await;
    let row = format!("{TABLE}/rows/k");
    let told = problem(h.get(&row).await).await;
    assert_eq!((told.status, told.code(), told.retryable), (503, "starting", true));
    let write = problem(h.put(&row, "v").await).await;
    assert_eq!((write.status, write.applied.as_deref()), (503, Some("no")));
    assert_eq!(h.get("/healthz").await.status(), StatusCode::OK);
    assert_eq!(problem(h.get("/readyz").await).await.code(), "starting");
    log.set_rates(FaultRates::default());
    let ready = async {
        while h.get("/readyz").await.status() != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ready).await.unwrap();
    assert_eq!(problem(h.get(&row).await).await.code(), "table-not-found");
}
