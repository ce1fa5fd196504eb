//! Two processes take writes and loads over one folder all the time; one is killed and comes back while the other goes
//! on.

use crate::lane::{Kills, Lane};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(crate) async fn run(folder: &Path, program: &Path, seed: u64, rounds: u64) {
    let lane = Lane::new(folder, program, seed, 2, Arc::new(Kills::default()));
    lane.make_tables().await;
    let mut processes = vec![lane.home.start(&lane.trap).await, lane.home.start(&lane.trap).await];
    for round in 0..rounds {
        let clients = lane.send_clients(&processes, round % 2 == 1);
        tokio::time::sleep(Duration::from_millis(1_000 + lane.rows.dice(2_500))).await;
        processes.remove(lane.rows.dice(2) as usize).kill().await;
        // The one that is left goes on alone, with its own clients.
        tokio::time::sleep(Duration::from_millis(lane.rows.dice(3_500))).await;
        let returned = lane.home.start(&lane.trap).await;
        lane.gather(clients).await;
        // Each sees what the other took, and what the dead one had taken.
        for process in processes.iter().chain([&returned]) {
            lane.verify(process).await;
            lane.check_complaints();
        }
        processes.push(returned);
    }
    for process in processes {
        process.stop().await;
    }
    lane.end().await;
    let ledger = lane.rows.ledger.lock();
    println!(
        "{} rows acknowledged, {} loads, edition {}",
        ledger.acknowledged,
        ledger.loads.len(),
        ledger.edition
    );
    assert!(ledger.acknowledged > 500, "hardly anything was written: {}", ledger.acknowledged);
}
