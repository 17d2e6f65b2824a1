//! One proxy that follows the hub: how soon a signal that the hub took is in force there.

use std::time::Instant;

use taskfence_tests::{
    client::{Connection, Http, Request},
    hub::FEED,
    mint::{self, Alg},
    orders,
};

use super::{Part, caught_up, follow, milliseconds, percentile, plain_rule, row_of, start_hub};
use crate::{Error, Result, service};

/// What 99 of 100 must not take longer than, in milliseconds.
const WITHIN_MS: f64 = 15.0;

/// From the 202 of the hub to the first refusal of the proxy.
pub async fn measure(part: &mut Part<'_>) -> Result<()> {
    let rounds = if part.options.quick { 100 } else { 1_000 };
    part.progress.begin(&format!("hub: {rounds} signals to one Envoy"));
    let filter = plain_rule();
    let hub = start_hub("bench-in-force", &filter, &part.cores.two).await?;
    let proxy = follow("in-force", &hub, hub.address(), &filter)?.start(&part.cores.proxy).await?;
    caught_up(&proxy, "app").await?;
    let mut app = Connection::open(proxy.address("app")?, Http::One).await?;
    let mut to_hub = Connection::open(hub.address(), Http::One).await?;
    let path = format!("/v1/feeds/{FEED}/signals");
    let (mut times, mut passed) = (Vec::new(), 0u64);
    for _ in 0..rounds {
        let session = mint::unique("session");
        let request = Request::get(orders::ORDER_PATH).bearer(&service::token(Alg::Es256).session(&session).sign());
        let set = Request::push(&path, &mint::revoke_session(&session).sign()).bearer(&hub.transmitter);
        let before = app.send(&request).await?;
        if before.status != 200 {
            return Err(Error::new(format!("before the signal: `{}`", before.line())));
        }
        let answer = to_hub.send(&set).await?;
        let answered = Instant::now();
        if answer.status != 202 {
            return Err(Error::new(format!("the signal was answered {}: {}", answer.status, answer.text())));
        }
        loop {
            let answer = app.send(&request).await?;
            match answer.line().as_str() {
                "401 session_revoked" => break,
                "200" if answered.elapsed() < super::PATIENCE => passed += 1,
                other => return Err(Error::new(format!("after the signal: `{other}` after {:?}", answered.elapsed()))),
            }
        }
        times.push(milliseconds(answered.elapsed()));
    }
    let about = format!(
        "From the hub's 202 to a session-revoked until one Envoy refused a request with that session, asked again and again \
         on one connection without a pause; {passed} requests passed meanwhile."
    );
    let row = row_of("hub/202 to in force on one proxy", &about, "ms", &times);
    part.rows.push(row.target("99 of 100 within 15 ms", Some(percentile(&times, 99)), Some(WITHIN_MS)));
    Ok(())
}
