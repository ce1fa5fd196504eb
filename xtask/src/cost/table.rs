//! What was counted, priced, and carried over to a large workload: with the formulas, so that anybody can put in their own
//! numbers.

use super::count::{Asked, Counted};
use super::prices::Prices;
use std::fmt::Write as _;

const DAY: f64 = 86_400.0;
/// Days of a month.
const MONTH: f64 = 30.0;

/// A workload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Workload {
    reads_per_second: f64,
    writes_per_second: f64,
    /// Of a value and its key.
    row_bytes: f64,
    kept_gb: f64,
    loaded_gb_per_day: f64,
    /// Bytes of a file of a load.
    file_gb: f64,
    tables: f64,
    partitions: f64,
    /// The part of gets that memory or disk answer.
    hit_rate: f64,
    /// Between flushes of a partition.
    flush_seconds: f64,
    /// What the log keeps behind `flushed_through`: the restore window.
    log_days: f64,
}

impl Workload {
    /// As Mussel's, which this store takes the place of.
    pub(super) fn mussel() -> Self {
        Self {
            reads_per_second: 800e3,
            writes_per_second: 100e3,
            row_bytes: 1_000.0,
            kept_gb: 130e3,
            loaded_gb_per_day: 20e3,
            file_gb: 0.25,
            tables: 4_000.0,
            partitions: 256.0,
            hit_rate: 0.95,
            flush_seconds: 60.0,
            log_days: 1.0,
        }
    }
}

impl Prices {
    fn of_requests(&self, asked: Asked) -> f64 {
        asked.puts * self.put
            + asked.gets * self.get
            + asked.write_units * self.write_unit
            + asked.read_units * self.read_unit
    }
}

pub(super) fn render(counted: &Counted, prices: &Prices, load: &Workload) -> String {
    let mut out = String::new();
    let Workload { row_bytes, hit_rate, .. } = *load;
    let _ = writeln!(
        out,
        "Prices of {} ({}), in dollars; requests as `cargo xtask cost --count` counted them.\n",
        prices.date, prices.region
    );
    let _ = writeln!(out, "| counted | S3 PUT, COPY, LIST | S3 GET | write units | read units | dollars |");
    let _ = writeln!(out, "|---|---|---|---|---|---|");
    let flush = counted.flushes.times(1.0 / counted.flush_count.max(1.0));
    for (name, asked) in [
        ("a flush edit, with its part of the merges", flush),
        ("a get that nothing nearer answers", counted.cold_get),
        ("an adopted file of a load", counted.adopted_file),
        ("an idle day of a fleet", counted.idle_hour.times(24.0)),
    ] {
        let Asked { puts, gets, write_units, read_units } = asked;
        let price = prices.of_requests(asked);
        let _ = writeln!(
            out,
            "| {name} | {puts:.2} | {gets:.2} | {write_units:.1} | {read_units:.1} | {price:.6} |"
        );
    }

    // Reads: misses, and the answers of nodes in other zones.
    let miss = (1.0 - hit_rate) * prices.of_requests(counted.cold_get);
    let far_reads = 1.0 / 3.0 * (row_bytes + 200.0) / 1e9 * prices.cross_zone_gb;
    let million_reads = 1e6 * (miss + far_reads);
    // Writes: edits as often as partitions are flushed, one for each table that has rows there.
    let edits_per_second = load.tables.max(load.partitions) / load.flush_seconds;
    let flushing = edits_per_second / load.writes_per_second * prices.of_requests(flush);
    // The counted rows hold a value that compresses to next to nothing; what a workload's values do is not known.
    let log_bytes = counted.log_bytes_per_row + row_bytes;
    let far_writes = (2.0 / 3.0 + 2.0) * log_bytes / 1e9 * prices.cross_zone_gb;
    let million_writes = 1e6 * (flushing + far_writes);
    let loaded_tb = 1e3 / load.file_gb * prices.of_requests(counted.adopted_file);
    let idle_day = prices.of_requests(counted.idle_hour.times(24.0));
    let _ = writeln!(out, "\n| | dollars | formula |\n|---|---|---|");
    for (name, price, formula) in [
        (
            "a million reads",
            million_reads,
            format!(
                "1e6 × ((1 − {hit_rate}) × a cold get + ⅓ × {:.0} B to another zone × {} a GB)",
                row_bytes + 200.0,
                prices.cross_zone_gb
            ),
        ),
        (
            "a million writes",
            million_writes,
            format!(
                "1e6 × ({edits_per_second:.0} edits/s ÷ {:.0} rows/s × a flush edit + (⅔ + 2) × {log_bytes:.0} B of log a row × {} a GB)",
                load.writes_per_second, prices.cross_zone_gb
            ),
        ),
        ("a loaded TB", loaded_tb, format!("1000 ÷ {} GB a file × an adopted file", load.file_gb)),
        ("an idle day", idle_day, "24 × an idle hour".to_owned()),
    ] {
        let _ = writeln!(out, "| {name} | {price:.4} | {formula} |");
    }

    let (reads, writes) = (load.reads_per_second * DAY * MONTH, load.writes_per_second * DAY * MONTH);
    let log_gb = load.writes_per_second * DAY * load.log_days * log_bytes * 3.0 / 1e9;
    let ours = [
        ("reads", reads / 1e6 * million_reads),
        ("writes", writes / 1e6 * million_writes),
        ("loads", load.loaded_gb_per_day * MONTH / 1e3 * loaded_tb),
        ("what an idle fleet asks for", idle_day * MONTH),
        ("kept in S3", prices.s3_month(load.kept_gb)),
        ("kept by the brokers, three times", log_gb * prices.ebs_gb),
    ];
    let item_units = (row_bytes / 1_024.0).ceil();
    let read_units = (row_bytes / 4_096.0).ceil() / 2.0;
    let loaded_rows = load.loaded_gb_per_day * 1e9 / row_bytes * MONTH;
    let theirs = [
        ("reads", reads * read_units * prices.read_unit),
        ("writes", writes * item_units * prices.write_unit),
        ("loads", loaded_rows * item_units * prices.write_unit),
        ("what an idle fleet asks for", 0.0),
        ("kept in S3", 0.0),
        ("kept by the brokers, three times", 0.0),
    ];
    let _ = writeln!(
        out,
        "\nA month of {:.0} reads/s and {:.0} writes/s of {row_bytes:.0} B, {:.0} TB kept in {:.0} tables, {:.0} TB loaded a day:\n",
        load.reads_per_second,
        load.writes_per_second,
        load.kept_gb / 1e3,
        load.tables,
        load.loaded_gb_per_day / 1e3
    );
    let _ = writeln!(out, "| | nacre | DynamoDB on demand |\n|---|---|---|");
    for ((name, own), (_, other)) in ours.iter().zip(theirs) {
        let _ = writeln!(out, "| {name} | {own:.0} | {other:.0} |");
    }
    let stored = load.kept_gb * prices.dynamodb_gb;
    let _ = writeln!(out, "| kept in DynamoDB | 0 | {stored:.0} |");
    let own: f64 = ours.iter().map(|(_, price)| price).sum();
    let other = theirs.iter().map(|(_, price)| price).sum::<f64>() + stored;
    let _ = writeln!(out, "| **together** | **{own:.0}** | **{other:.0}** |");
    let _ = writeln!(
        out,
        "\nDynamoDB: {read_units} read units a read (eventually consistent) and {item_units} write units a write of {row_bytes:.0} B, \
         loaded rows written one by one. Not in it on either side: machines, and on ours the brokers' and nodes' own price; \
         traffic of the load balancer; backups."
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted() -> Counted {
        let flushes = Asked { puts: 400.0, gets: 100.0, write_units: 2_000.0, read_units: 100.0 };
        Counted {
            idle_hour: Asked { puts: 1.0, gets: 2.0, write_units: 3.0, read_units: 4.0 },
            flushes,
            flush_count: 100.0,
            log_bytes_per_row: 600.0,
            cold_get: Asked { gets: 1.0, ..Asked::default() },
            adopted_file: Asked { puts: 3.0, gets: 5.0, write_units: 1.0, read_units: 1.0 },
        }
    }

    #[test]
    fn a_miss_costs_a_get_and_a_hit_none() {
        let prices = Prices::of(include_str!("prices.toml")).unwrap();
        let usual = Workload::mussel();
        let text = |hit_rate| render(&counted(), &prices, &Workload { hit_rate, ..usual });
        let reads = |text: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with("| a million reads")).unwrap().to_owned();
            line.split('|').nth(2).unwrap().trim().parse().unwrap()
        };
        // A million GETs cost 40 cents.
        assert!((reads(&text(0.0)) - reads(&text(1.0)) - 0.4).abs() < 1e-3);
    }

    #[test]
    fn the_table_says_its_date_and_both_totals() {
        let prices = Prices::of(include_str!("prices.toml")).unwrap();
        let text = render(&counted(), &prices, &Workload::mussel());
        assert!(text.contains(&prices.date) && text.contains("**together**"), "{text}");
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    }

    #[test]
    fn what_was_counted_is_kept_as_it_is() {
        assert_eq!(Counted::from_json(&counted().to_json()).unwrap(), counted());
    }
}
