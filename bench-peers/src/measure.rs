//! Rounds in turns, medians, ratios.

use std::time::{Duration, Instant};

use crate::stores::Peer;
use crate::stores::nacre::Nacre;
use crate::stores::rocks::Rocks;
use crate::stores::slate::Slate;

/// The stores of one scenario.
pub struct Peers<'a> {
    pub nacre: &'a Nacre,
    pub rocks: Option<&'a Rocks>,
    pub slate: Option<&'a Slate>,
}

/// What every store is asked.
#[derive(Clone, Copy)]
pub enum Question<'a> {
    Get(&'a [[u8; 16]]),
    /// Runs of this many rows.
    Scan(&'a [[u8; 16]], usize),
}

impl Question<'_> {
    async fn ask(self, peer: &impl Peer) -> (u64, u64) {
        match self {
            Self::Get(keys) => peer.get_all(keys).await,
            Self::Scan(starts, rows) => peer.scan_all(starts, rows).await,
        }
    }

    fn size(self) -> u64 {
        match self {
            Self::Get(keys) => keys.len() as u64,
            Self::Scan(starts, rows) => (starts.len() * rows) as u64,
        }
    }

    /// The first of `parts` parts: slow stores are asked less.
    fn part(self, parts: usize) -> Self {
        match self {
            Self::Get(keys) => Self::Get(&keys[..keys.len() / parts]),
            Self::Scan(starts, rows) => Self::Scan(&starts[..starts.len().div_ceil(parts)], rows),
        }
    }
}

async fn rate(question: Question<'_>, peer: &impl Peer) -> (f64, (u64, u64)) {
    let began = Instant::now();
    let answer = question.ask(peer).await;
    (question.size() as f64 / began.elapsed().as_secs_f64(), answer)
}

/// Asks all in turns and prints medians and the medians of the rounds' ratios.
pub async fn compare(name: &str, rounds: usize, question: Question<'_>, peers: &Peers<'_>) {
    let (mut ours, mut rocks, mut slate) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (own, answer) = rate(question, peers.nacre).await;
        ours.push(own);
        if let Some(peer) = peers.rocks {
            let (rate, theirs) = rate(question, peer).await;
            assert_eq!(theirs, answer, "{name}: the stores do not hold the same");
            rocks.push((rate, own / rate));
        }
        if let Some(peer) = peers.slate {
            let (rate, _) = rate(question.part(8), peer).await;
            slate.push((rate, own / rate));
        }
    }
    let per_second = |rate: f64| format!("{:.3} M/s", rate / 1e6);
    let own = median(&mut ours);
    let mut line = format!("{name:<34} nacre {} ({:.2} µs)", per_second(own), 1e6 / own);
    for (peer, figures) in [("rocksdb", rocks), ("slatedb", slate)] {
        if !figures.is_empty() {
            let (mut rates, mut ratios): (Vec<f64>, Vec<f64>) = figures.into_iter().unzip();
            line += &format!(
                "   {peer} {}, nacre is {:.2} times as fast",
                per_second(median(&mut rates)),
                median(&mut ratios)
            );
        }
    }
    println!("{line}");
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// CPU time of all threads of this process so far.
pub fn cpu() -> Duration {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        if let Ok(text) = std::fs::read_to_string(task.path().join("schedstat")) {
            total += text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    Duration::from_nanos(total)
}
