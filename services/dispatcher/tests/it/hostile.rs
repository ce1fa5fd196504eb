//! Clients that are wrong, slow or hostile: they are told which limit they hit, and nobody else notices.

use std::time::Duration;

use nacre_dispatcher::Config;
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Harness, TABLE, config, header, problem};

#[tokio::test]
async fn limits_are_named_by_the_errors_that_hit_them() {
    let h = Harness::start().await;
    let long = |n: usize| "k".repeat(n);
    let value = problem(h.put(&format!("{TABLE}/rows/k"), vec![0; (1 << 20) + 1]).await).await;
    assert!(
        value.status == 413 && value.code() == "value-too-large" && value.detail.contains("value_bytes"),
        "{value:?}"
    );
    assert_eq!(value.applied.as_deref(), Some("no"));
    assert_eq!(h.put(&format!("{TABLE}/rows/k"), vec![0; 1 << 20]).await.status(), StatusCode::NO_CONTENT);
    let chunked = futures::stream::iter((0..3).map(|_| Ok::<_, std::io::Error>(vec![0u8; 1 << 19])));
    let chunked = h.put(&format!("{TABLE}/rows/k"), reqwest::Body::wrap_stream(chunked)).await;
    assert_eq!(problem(chunked).await.code(), "value-too-large");
    let key = problem(h.get(&format!("{TABLE}/rows/{}", long(2_049))).await).await;
    assert!(key.status == 413 && key.detail.contains("key_bytes"), "{key:?}");
    let uri = problem(h.get(&format!("{TABLE}/rows/k?prefix={}", long(17_000))).await).await;
    assert!(uri.status == 414 && uri.detail.contains("uri_bytes"), "{uri:?}");
    let headers = h.request(Method::GET, "/healthz").header("x-a", long(20_000)).header("x-b", long(20_000));
    let headers = problem(headers.send().await.unwrap()).await;
    assert!(headers.status == 431 && headers.detail.contains("header_bytes"), "{headers:?}");
    let body = problem(h.put(TABLE, format!("{{\"value_content_type\":\"{}\"}}", long(2 << 20))).await).await;
    assert!(body.status == 413 && body.detail.contains("body_bytes"), "{body:?}");
    for path in ["rows/%zz", "rows/", "rows/k?version=x", "rows/k?nope=1"] {
        assert_eq!(problem(h.put(&format!("{TABLE}/{path}"), "v").await).await.status, 422, "{path}");
    }
}

/// Sends raw bytes and reads until the server closes or `wait` is over.
async fn raw(h: &Harness, bytes: &[u8], wait: Duration) -> Vec<u8> {
    let mut stream = TcpStream::connect(h.address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(wait, stream.read_to_end(&mut answer)).await;
    answer
}

#[tokio::test]
async fn bytes_that_are_no_request_do_not_matter() {
    let h = Harness::start().await;
    let mut huge = b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: ".to_vec();
    huge.extend(std::iter::repeat_n(b'a', 300_000));
    let many: String = (0..300).map(|n| format!("x-{n}: 1\r\n")).collect();
    let wait = Duration::from_millis(300);
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"PRI",
        b"\r\n\r\n\r\n",
        b"GET /v1/namespaces/default/tables/t/rows/\xff\xfe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        b"PUT /v1/namespaces/default/tables/t/rows/k HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
        b"PUT /v1/namespaces/default/tables/t/rows/k HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nnacre-token: \xff\xfe\r\nconnection: close\r\n\r\n",
        &huge,
        format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes(),
    ] {
        let answer = raw(&h, bytes, wait).await;
        assert!(answer.len() < 10_000, "{}", bytes[..bytes.len().min(80)].escape_ascii());
    }
    assert_eq!(h.get("/healthz").await.status(), StatusCode::OK);
    let metrics = h.get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains("nacre_http_panics_total 0"), "{metrics}");
}

fn impatient() -> Config {
    Config {
        header_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_millis(600),
        body_timeout: Duration::from_millis(200),
        write_timeout: Duration::from_millis(300),
        ..config()
    }
}

#[tokio::test]
async fn slow_heads_are_cut_off_slow_bodies_are_told_and_idle_connections_end() {
    let h = Harness::with(impatient()).await;
    h.create("t", "{}").await;
    let began = h.ctx.clock.monotonic();
    let long = Duration::from_secs(10);
    assert!(raw(&h, b"", long).await.is_empty());
    assert!(raw(&h, b"GET /healthz HT", long).await.is_empty());
    let body = raw(
        &h,
        format!("PUT {TABLE}/rows/k HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc").as_bytes(),
        long,
    )
    .await;
    let body = String::from_utf8(body).unwrap();
    assert!(body.starts_with("HTTP/1.1 408") && body.contains("body_timeout"), "{body}");
    let idle = String::from_utf8(raw(&h, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", long).await).unwrap();
    assert!(idle.starts_with("HTTP/1.1 200"), "{idle}");
    // Half of a second head on a kept connection.
    let second = raw(&h, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /heal", long).await;
    assert!(second.starts_with(b"HTTP/1.1 200"));
    let took = h.ctx.clock.monotonic() - began;
    assert!(took < Duration::from_secs(9), "{took:?}");
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let h = Harness::with(impatient()).await;
    h.create("t", "{}").await;
    for n in 0..4 {
        h.put(&format!("{TABLE}/rows/{n}"), vec![b'x'; 1 << 20]).await;
    }
    // Asks for many pages at once and reads none of them: more than the sockets' buffers take.
    let mut stream = TcpStream::connect(h.address).await.unwrap();
    let ask = format!("GET {TABLE}/rows HTTP/1.1\r\nhost: x\r\n\r\n").repeat(20);
    stream.write_all(ask.as_bytes()).await.unwrap();
    let cut = async {
        while !h.get("/metrics").await.text().await.unwrap().contains("nacre_http_slow_clients_total 1") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), cut).await.unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so() {
    let h = Harness::with(Config { max_connections: 2, ..config() }).await;
    let first = TcpStream::connect(h.address).await.unwrap();
    let second = TcpStream::connect(h.address).await.unwrap();
    let told = async {
        loop {
            let answer = raw(&h, b"", Duration::from_secs(1)).await;
            if answer.starts_with(b"HTTP/1.1 503") {
                return String::from_utf8(answer).unwrap();
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
    assert!(answer.contains("max_connections") && answer.contains("retry-after"), "{answer}");
    drop((first, second));
    let again = async {
        while h.client.get(h.url("/healthz")).send().await.map(|r| r.status()).ok() != Some(StatusCode::OK) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
}

#[tokio::test]
async fn too_many_requests_in_flight_are_shed_low_priority_first() {
    let h = Harness::with(Config { max_requests: 1, ..config() }).await;
    // One request that holds its place: its body does not end.
    let mut stream = TcpStream::connect(h.address).await.unwrap();
    h.create("t", "{}").await;
    let head = format!("PUT {TABLE}/rows/k HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc");
    stream.write_all(head.as_bytes()).await.unwrap();
    let shed = async {
        loop {
            let answer = h.get(&format!("{TABLE}/rows/k")).await;
            if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), shed).await.unwrap();
    assert_eq!(header(&answer, "retry-after"), "1");
    let problem = problem(answer).await;
    assert!(
        problem.kind == "overloaded" && problem.retryable && problem.detail.contains("max_requests"),
        "{problem:?}"
    );
    assert_eq!(h.get("/healthz").await.status(), StatusCode::OK, "health is answered always");
}
