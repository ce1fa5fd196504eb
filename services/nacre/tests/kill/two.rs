//! Two processes take writes and loads over one folder all the time; one is killed, the other takes over what it was at,
//! and the first comes back.

use crate::lane::{Kills, LIMIT, Lane};
use crate::process::Process;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Where it is killed: at a random moment, or inside one of these.
const MOMENTS: [&str; 6] = ["any", "rewrite", "flush", "any", "commit", "compaction"];

pub(crate) async fn run(folder: &Path, program: &Path, seed: u64, rounds: u64) {
    let lane = Lane::new(folder, program, seed, 2, Arc::new(Kills::default()));
    lane.make_tables().await;
    let mut processes = vec![lane.home.start(&lane.trap).await, lane.home.start(&lane.trap).await];
    for round in 0..rounds {
        let moment = MOMENTS[round as usize % MOMENTS.len()];
        let mut clients = lane.send_clients(&processes, moment == "rewrite");
        tokio::time::sleep(Duration::from_millis(500 + lane.rows.dice(2_500))).await;
        let dies = moment_of_death(&lane, &processes, moment).await;
        processes.remove(dies).kill().await;
        let survivor = &processes[0];
        let flushes = lane.trap.count(survivor.number, "flush/committed");
        // The loads that the dead one had taken on are this one's to end, and its callers come here.
        let orphans: Vec<u64> = {
            let ledger = lane.rows.ledger.lock();
            let is_orphan = |load: &&crate::ledger::Load| load.owner == dies && !load.is_over;
            ledger.loads.iter().filter(is_orphan).map(|load| load.number).collect()
        };
        clients.push(tokio::spawn(lane.rows.clone().load(survivor.api.clone(), false, dies)));
        let takes_over = async {
            let is_over = |number: &u64| {
                let ledger = lane.rows.ledger.lock();
                ledger.loads.iter().any(|load| load.number == *number && load.is_over)
            };
            while !orphans.iter().all(is_over)
                || lane.trap.count(survivor.number, "flush/committed") == flushes
            {
                lane.check_complaints();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let taken = tokio::time::timeout(LIMIT, takes_over).await;
        assert!(taken.is_ok(), "loads {orphans:?} or flushes are not taken over: {}", survivor.log_end());
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
    crate::tell(&format!(
        "two processes, one killed {rounds} times: {} rows acknowledged, {} loads, edition {}",
        ledger.acknowledged,
        ledger.loads.len(),
        ledger.edition
    ));
    assert!(ledger.acknowledged > 500, "hardly anything was written: {}", ledger.acknowledged);
}

/// Which of the processes is to be killed now.
async fn moment_of_death(lane: &Lane, processes: &[Process], moment: &'static str) -> usize {
    if moment != "any" {
        let reached = lane.trap.arm(moment, lane.rows.dice(4));
        if let Ok(Ok((number, _))) = tokio::time::timeout(Duration::from_secs(12), reached).await {
            return processes.iter().position(|process| process.number == number).unwrap();
        }
        lane.trap.disarm();
    }
    assert!(!lane.rows.stop.load(Ordering::Relaxed));
    lane.rows.dice(processes.len() as u64) as usize
}
