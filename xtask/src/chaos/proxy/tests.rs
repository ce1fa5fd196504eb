use super::*;
use crate::chaos::http::{Http, Lost};
use std::io::Read;

/// A server that answers every request with its number, and how often it was asked.
fn server() -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicU64::new(0));
    let counted = asked.clone();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let counted = counted.clone();
            thread::spawn(move || {
                let mut rest = Vec::new();
                while let Ok(Some(request)) = read_message(&mut stream, &mut rest, false) {
                    let number = counted.fetch_add(1, Ordering::SeqCst);
                    let host = request.head.contains("host: nacre\r\n");
                    let text = format!("{number} {host}");
                    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    (port, asked)
}

fn proxied(kind: Kind) -> (Proxy, Http, Arc<AtomicU64>) {
    let (port, asked) = server();
    let proxy = Proxy::start(kind, port, 1).unwrap();
    let http = Http::new(proxy.port, Duration::from_secs(1));
    (proxy, http, asked)
}

#[test]
fn without_faults_requests_pass_as_they_are() {
    let (_proxy, mut http, asked) = proxied(Kind::S3);
    for number in 0..3 {
        let answer = http.call("PUT", "/x", &[], b"body").unwrap();
        assert_eq!((answer.status, answer.text()), (200, format!("{number} true")));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[test]
fn what_is_throttled_or_fails_before_is_not_done_and_what_fails_after_is() {
    for (faults, status, done) in [
        (Faults { throttled: 100, ..Faults::default() }, 503, 0),
        (Faults { failed_before: 100, ..Faults::default() }, 500, 0),
        (Faults { failed_after: 100, ..Faults::default() }, 500, 1),
    ] {
        let (proxy, mut http, asked) = proxied(Kind::S3);
        proxy.set(faults);
        assert_eq!(http.call("PUT", "/x", &[], b"body").unwrap().status, status);
        assert_eq!(asked.load(Ordering::SeqCst), done, "{faults:?}");
        proxy.set(Faults::default());
        assert_eq!(http.call("PUT", "/x", &[], b"body").unwrap().status, 200);
        assert_eq!(proxy.counts(), (2, 1));
    }
}

#[test]
fn a_lost_answer_is_of_something_done() {
    let (proxy, mut http, asked) = proxied(Kind::DynamoDb);
    proxy.set(Faults { lost: 100, ..Faults::default() });
    assert!(matches!(http.call("POST", "/", &[], b"x"), Err(Lost::Unknown(_))));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn an_outage_is_silent_or_refuses() {
    let (proxy, mut http, asked) = proxied(Kind::DynamoDb);
    proxy.set(Faults { refuse: true, ..Faults::default() });
    assert!(http.call("POST", "/", &[], b"x").is_err());
    proxy.set(Faults { hang: true, ..Faults::default() });
    assert!(http.call("POST", "/", &[], b"x").is_err());
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[test]
fn only_transactions_conflict() {
    let (proxy, mut http, asked) = proxied(Kind::DynamoDb);
    proxy.set(Faults { conflicts: 100, ..Faults::default() });
    let target = |what| [("x-amz-target", what)];
    let answer = http.call("POST", "/", &target("DynamoDB_20120810.TransactWriteItems"), b"x").unwrap();
    assert_eq!((answer.status, answer.text().contains("TransactionConflict")), (400, true));
    assert_eq!(http.call("POST", "/", &target("DynamoDB_20120810.GetItem"), b"x").unwrap().status, 200);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn a_message_ends_where_it_says() {
    let mut bytes: &[u8] = b"PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n\r\n";
    let mut rest = Vec::new();
    let first = read_message(&mut bytes, &mut rest, false).unwrap().unwrap();
    assert!(first.bytes.ends_with(b"abc"));
    let second = read_message(&mut bytes, &mut rest, false).unwrap().unwrap();
    assert!(second.head.starts_with("GET") && second.bytes.len() == 18);
    assert!(read_message(&mut bytes, &mut rest, false).unwrap().is_none());
    assert_eq!(bytes.read(&mut [0]).unwrap(), 0);
}

#[test]
fn one_delay_in_a_hundred_is_longer_than_was_said() {
    let (proxy, ..) = proxied(Kind::S3);
    proxy.set(Faults { delay_ms: 15, delay_p99_ms: 60, ..Faults::default() });
    let mut delays: Vec<Duration> = (0..20_000).map(|_| proxy.state.fate("GET / HTTP/1.1").1).collect();
    delays.sort_unstable();
    let millis = |at: usize| delays[at].as_secs_f64() * 1e3;
    assert!((14.0..16.0).contains(&millis(10_000)), "{} ms in the middle", millis(10_000));
    assert!((52.0..68.0).contains(&millis(19_800)), "{} ms at p99", millis(19_800));
}

#[test]
fn gets_and_those_of_parts_are_counted() {
    let (proxy, mut http, _) = proxied(Kind::S3);
    http.call("GET", "/b/o", &[], b"").unwrap();
    http.call("GET", "/b/o", &[("range", "bytes=0-9")], b"").unwrap();
    http.call("GET", "/b?list-type=2", &[], b"").unwrap();
    http.call("PUT", "/b/o", &[], b"x").unwrap();
    assert_eq!(proxy.came(), Came { all: 4, gets: 2, parts: 1 });
}
