//! A disk that is full: writes are refused with its name, reads go on, and room on it is all that is needed.

use std::path::Path;
use std::process::Command;

use crate::harness::{Http, Server};

const TABLE: &str = "/v1/namespaces/default/tables/t";

/// A small disk of its own, in memory; unmounted when dropped.
struct Disk<'p>(&'p Path);

impl<'p> Disk<'p> {
    /// `None` where the test may not mount.
    fn mount(at: &'p Path) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }

    /// Takes what is left.
    fn fill(&self) {
        use std::io::Write;
        let mut ballast = std::fs::File::create(self.0.join("ballast")).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            while ballast.write_all(&vec![0u8; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_that_was_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(folder.path()) else {
        println!("passed over: this test mounts a small disk, which it may not do here (try it as root)");
        return;
    };
    let server = Server::start(folder.path(), &[]);
    let http = Http::of(&server);
    assert_eq!(http.ask("PUT", TABLE, "{}").0, 201);
    let row = |n: u32| format!("{TABLE}/rows/k{n}");
    let value = |n: u32| format!("value {n} ").repeat(2_000).into_bytes();
    let mut acknowledged: Vec<u32> = (0..20).collect();
    for n in &acknowledged {
        assert_eq!(http.ask("PUT", &row(*n), value(*n)).0, 204);
    }

    disk.fill();
    let mut refused = 0;
    for n in 20..40 {
        let (status, told) = http.ask("PUT", &row(n), value(n));
        if status == 204 {
            acknowledged.push(n);
            continue;
        }
        refused += 1;
        assert_eq!((status, told["type"].as_str()), (503, Some("/errors/disk-full")), "{told}");
        assert!(told["detail"].as_str().unwrap().contains("make room on the disk"), "{told}");
        assert_eq!(
            (told["applied"].as_str(), told["retryable"].as_bool()),
            (Some("no"), Some(true)),
            "{told}"
        );
    }
    assert!(refused > 10, "the disk was not full: {refused}");
    let (status, told) = http.ask("PUT", "/v1/namespaces/default/tables/more", "{}");
    assert_eq!((status, told["type"].as_str()), (503, Some("/errors/disk-full")), "{told}");
    let (status, told) =
        http.ask("POST", &format!("{TABLE}/rows:batchWrite"), "{\"rows\":[{\"key\":\"b\",\"value\":\"v\"}]}");
    assert_eq!((status, told["rows"][0]["status"].as_str()), (200, Some("unavailable")), "{told}");
    assert!(told["rows"][0]["error"].as_str().unwrap().starts_with("disk-full"), "{told}");
    let (status, told) =
        http.ask("POST", &format!("{TABLE}/loads"), "{\"mode\":\"merge\",\"version\":\"now\"}");
    assert_eq!((status, told["type"].as_str()), (503, Some("/errors/disk-full")), "{told}");
    // Reads go on, and nothing refused is seen.
    let check = |http: &Http, acknowledged: &[u32]| {
        for n in 0..40 {
            let (status, found) = http.bytes(&row(n));
            if acknowledged.contains(&n) {
                assert_eq!((status, found), (200, value(n)), "k{n}");
            } else {
                assert_eq!(status, 404, "k{n} was refused");
            }
        }
    };
    check(&http, &acknowledged);
    assert_eq!(http.ask("GET", "/readyz", "").0, 200);

    disk.make_room();
    for n in 20..40 {
        assert_eq!(http.ask("PUT", &row(n), value(n)).0, 204, "k{n}: there is room again");
    }
    check(&http, &(0..40).collect::<Vec<_>>());

    // Full once more, and killed: what was acknowledged is there when there is room.
    disk.fill();
    let _ = http.ask("PUT", &row(40), value(40));
    server.kill();
    disk.make_room();
    let server = Server::start(folder.path(), &[]);
    check(&Http::of(&server), &(0..40).collect::<Vec<_>>());
    assert_eq!(server.stop(), 0);
}
