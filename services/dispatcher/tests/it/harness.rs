//! Starts servers and asks them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use nacre_api::Problem;
use nacre_cache::CacheConfig;
use nacre_catalog::ObjectCatalog;
use nacre_dispatcher::{Config, Server};
use nacre_engine::{Node, NodeConfig};
use nacre_log::{ObjectLog, ObjectLogConfig};
use nacre_runtime::{Clock, Context, SystemClock};
use nacre_store::testing::{FaultRates, FaultyStore};
use nacre_store::{MemoryStore, ObjectPath, ObjectStore};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};

pub(crate) const TABLE: &str = "/v1/namespaces/default/tables/t";

/// The system's clock, whose hands a test may put forward.
#[derive(Debug, Default)]
pub(crate) struct Hands {
    clock: SystemClock,
    ahead_micros: AtomicI64,
}

impl Hands {
    pub(crate) fn advance(&self, seconds: i64) {
        self.ahead_micros.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }
}

impl Clock for Hands {
    fn now_micros(&self) -> i64 {
        self.clock.now_micros() + self.ahead_micros.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}

pub(crate) struct Harness {
    pub(crate) clock: Arc<Hands>,
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    pub(crate) ctx: Context,
    pub(crate) node: Arc<Node>,
    pub(crate) served: nacre_runtime::TaskHandle<()>,
}

impl Harness {
    /// A server with the settings of production, and the table `default/t`.
    pub(crate) async fn start() -> Self {
        let harness = Self::with(config()).await;
        harness.create("t", "{}").await;
        harness
    }

    pub(crate) async fn with(config: Config) -> Self {
        let harness = Self::over(config, |store| store).await;
        harness.node.wait_ready().await.unwrap();
        harness
    }

    /// A server whose log does not answer, and what ends that.
    pub(crate) async fn with_log_away() -> (Self, Arc<FaultyStore>) {
        let mut away = None;
        let harness = Self::over(config(), |store| {
            let faulty = FaultyStore::new(store, 1);
            faulty.set_rates(FaultRates { unavailable: 1_000, ..FaultRates::default() });
            away = Some(faulty.clone());
            Arc::new(faulty)
        });
        (harness.await, away.unwrap())
    }

    /// `log` makes of the store the one that the log lies in.
    async fn over(config: Config, log: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        let clock = Arc::new(Hands::default());
        let ctx = Context::for_tests(1).with_clock(clock.clone());
        let store: Arc<dyn ObjectStore> = Arc::new(MemoryStore::new(&ctx));
        let catalog = Arc::new(ObjectCatalog::new(store.clone(), "catalog", &ctx).unwrap());
        let prefix = ObjectPath::new("log").unwrap();
        let log =
            Arc::new(ObjectLog::open(log(store.clone()), &prefix, &ctx, ObjectLogConfig::default()).unwrap());
        let cache =
            CacheConfig { memory_bytes: 16 << 20, row_bytes: 1 << 20, index_bytes: 4 << 20, disk: None };
        let node = Node::open(&ctx, store, catalog, log, cache, NodeConfig::default()).await.unwrap();
        let server =
            Server::bind(config, node.clone(), nacre_dispatcher::Reads::Here, ctx.clone()).await.unwrap();
        let address = server.local_addr();
        let served = ctx.tasks.spawn("server", server.serve(ctx.tasks.shutdown_token()));
        nacre_tls::install_provider();
        let client = Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        Self { clock, address, client, ctx, node, served }
    }

    pub(crate) async fn create(&self, table: &str, settings: &str) -> Response {
        let path = format!("/v1/namespaces/default/tables/{table}");
        let response = self.request(Method::PUT, &path).body(settings.to_owned()).send().await.unwrap();
        assert!(response.status().is_success(), "{}", response.text().await.unwrap());
        response
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn json(&self, path: &str) -> serde_json::Value {
        let response = self.get(path).await;
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) async fn put(&self, path: &str, body: impl Into<reqwest::Body>) -> Response {
        self.request(Method::PUT, path).body(body).send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<String>) -> Response {
        let request = self.request(Method::POST, path).header("content-type", "application/json");
        request.body(body.into()).send().await.unwrap()
    }

    pub(crate) async fn post_json(&self, path: &str, body: impl Into<String>) -> serde_json::Value {
        let response = self.post(path, body).await;
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(status.is_success(), "{status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Writes `rows/{key}`.
    pub(crate) async fn row(&self, key: &str, value: &str) {
        let response = self.put(&format!("{TABLE}/rows/{key}"), value.to_owned()).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT, "{}", response.text().await.unwrap());
    }
}

/// As in production, on a free port.
pub(crate) fn config() -> Config {
    Config { listen: ([127, 0, 0, 1], 0).into(), ..Config::default() }
}

/// The problem that a response carries, after checking what all problems have.
pub(crate) async fn problem(response: Response) -> Problem {
    let status = response.status();
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{status}");
    let id = response.headers()["nacre-request-id"].to_str().unwrap().to_owned();
    let retry_after = response.headers().contains_key("retry-after");
    let problem: Problem = response.json().await.unwrap();
    assert_eq!(problem.status, status.as_u16());
    assert_eq!(problem.instance, format!("/requests/{id}"));
    assert!(nacre_api::kind_from_name(&problem.kind).is_some(), "{}", problem.kind);
    assert!(!problem.detail.is_empty() && !problem.title.is_empty());
    assert!(retry_after || !matches!(problem.status, 429 | 503), "{problem:?}");
    problem
}

pub(crate) fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}
