//! `cargo xtask bench drive`: one kind of traffic against a server that runs already, for a profiler to look at.

use super::batch::{self, Form};
use super::clients;
use super::options::Options;
use super::server::{TABLE, key_of};
use super::stats::Rounds;
use super::wire::Request;
use crate::Outcome;
use std::net::SocketAddr;
use std::time::Duration;

pub(crate) fn run(mut options: Options) -> Outcome {
    let address = options.text("server").unwrap_or_else(|| "127.0.0.1:8790".into());
    let what = options.text("what").unwrap_or_else(|| "get".into());
    let form = if options.flag("json") { Form::Json } else { Form::Binary };
    let seconds = options.seconds("seconds", 5)?;
    let count = options.number("clients", 16)?.max(1);
    let keys = options.number("keys", 100_000)?.max(1);
    let rows = options.number("batch", 100)?.clamp(1, 10_000) as usize;
    let rate = options.number("rate", 0)?;
    options.finish()?;
    let address: SocketAddr = address.parse().map_err(|error| format!("--server {address}: {error}"))?;
    let value = batch::value(200);
    let digits = match what.as_str() {
        "write" => batch::write(form, rows, &value).split().1,
        "batch-get" => batch::get(form, rows).split().1,
        "get" => vec![format!("GET {TABLE}/rows/{}", key_of(0)).len() - 12],
        _ => return Err(format!("--what {what}: expected get, batch-get or write")),
    };
    let units = if what == "get" { 1 } else { rows as u64 };
    let prepare = |_| match what.as_str() {
        "write" => batch::write(form, rows, &value).split().0,
        "batch-get" => batch::get(form, rows).split().0,
        _ => {
            // Its key lies in the head, which is changed like a body.
            let mut request = Request::get(&format!("{TABLE}/rows/{}", key_of(0)));
            request.body_at = 0;
            request
        }
    };
    let every = match rate {
        0 => Duration::ZERO,
        rate => Duration::from_secs_f64((count * units) as f64 / rate as f64),
    };
    let paced = clients::paced(address, count, seconds, units, every, prepare, |request, random| {
        batch::shuffle(request, &digits, random, keys);
    })?;
    Rounds::default().add(&what, paced.sample);
    Ok(())
}
