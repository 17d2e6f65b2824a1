//! The same with a hub: two proxies that follow it, a receipt, restarts, and a mistake that is undone.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use taskfence_tests::{
    Error, Result,
    client::{Http, Request},
    hub::{FEED, Hub, wait_ready},
    orders,
    sidecar::Sidecar,
};

use crate::{Steps, Taskfence, mint, read_json};

/// The task that ends through the hub, and the one that an operator ends by mistake.
const ENDED: &str = "task-46";
/// See [`ENDED`].
const MISTAKEN: &str = "task-47";

/// How often proxies hand over what they have counted.
const PERIOD: &str = "1s";
/// So long it may take until all of it is in the store. A proxy learns the period when it hands over the first time.
const COUNTED: Duration = Duration::from_secs(30);

/// A hub, and two proxies that follow it.
pub struct HubDemo<'d> {
    folder: &'d Path,
    command: &'d Taskfence,
    hub: Hub,
    plain: Sidecar,
    lone: Sidecar,
}

impl<'d> HubDemo<'d> {
    /// Starts all of it.
    pub async fn set_up(folder: &'d Path, command: &'d Taskfence, config: &Value) -> Result<Self> {
        println!("A hub with its store on disk, which takes signals in once for every proxy.");
        let (issuer, transmitter) =
            (read_json(&folder.join("issuer.jwks.json"))?, read_json(&folder.join("transmitter.jwks.json"))?);
        let hub = Hub::start_with("demo-hub", |hub| {
            hub["evidence"] = json!({"period": PERIOD});
            hub["feeds"][0]["issuers"] = config["issuers"].clone();
            hub["feeds"][0]["issuers"][0]["keys"]["inline"] = issuer;
            hub["feeds"][0]["signals"]["transmitters"][0]["keys"]["inline"] = transmitter;
        })
        .await?;
        command.show(&["check", &hub.config_file()])?;
        println!("  hub          http://{}", hub.address());
        println!("  its folder   {}\n", hub.folder().display());
        println!("Two proxies follow it: one as plain Envoy sets it up, one as Istio and Envoy Gateway do.");
        let plain = Sidecar::start(hub.plain("demo-plain", config)).await?;
        let lone = Sidecar::start(hub.lone("demo-lone", config)).await?;
        for (name, proxy) in [("plain Envoy", &plain), ("one plugin", &lone)] {
            wait_ready(proxy).await?;
            println!("  {name:<12} http://{}  caught up", proxy.app());
        }
        println!();
        Ok(Self { folder, command, hub, plain, lone })
    }

    /// A revocation reaches both, and the receipt says so.
    pub async fn a_task_ends_everywhere(&self, steps: &mut Steps) -> Result<()> {
        println!("A token for {ENDED}.");
        let token = self.command.show(&mint(self.folder, ENDED, &[]))?;
        println!();
        self.asked(steps, "Both proxies let it.", &token, "200 and 200").await?;
        steps.begin("The task ends at the hub; the receipt says where that is in force.");
        let came = self.operator(&self.complete(ENDED))?;
        let everywhere = came.contains("in force on 2 of 2 proxies");
        steps.end("in force on 2 of 2 proxies", if everywhere { "in force on 2 of 2 proxies" } else { &came });
        self.asked(steps, "Both refuse it.", &token, "401 task_completed and 401 task_completed").await
    }

    /// A proxy and the hub restart; nothing is forgotten.
    pub async fn restarts(&mut self, config: &Value, steps: &mut Steps) -> Result<()> {
        // What a proxy has not handed over goes with it.
        self.counted("1 grants, 1 unbounded, 2 permitted").await?;
        println!("A proxy is replaced by a new one, and the hub is killed and started again.");
        self.hub.kill();
        self.plain = Sidecar::start(self.hub.plain("demo-plain-again", config)).await?;
        println!("  plain Envoy  http://{}  while the hub is down", self.plain.app());
        let token = self.command.show(&mint(self.folder, ENDED, &[]))?;
        println!();
        steps.begin("A proxy that has not caught up judges no token.");
        let answer = self.plain.send(Http::One, &Request::get(orders::ORDER_PATH).bearer(&token)).await?;
        steps.end("503 state_not_ready", &answer.line());
        self.hub.run().await?;
        wait_ready(&self.plain).await?;
        self.asked(steps, "What was revoked stays revoked.", &token, "401 task_completed and 401 task_completed").await
    }

    /// An operator ends the wrong task, and undoes that by name.
    pub async fn a_mistake_is_undone(&self, steps: &mut Steps) -> Result<()> {
        println!("An operator ends the wrong task.");
        let token = self.command.show(&mint(self.folder, MISTAKEN, &[]))?;
        println!("The receipt names the proxy that was replaced too: the hub cannot know that it is gone.");
        // For that reason its exit code is not 0.
        let _ = self.operator(&self.complete(MISTAKEN));
        println!();
        self.asked(steps, "It is refused everywhere.", &token, "401 task_completed and 401 task_completed").await?;
        steps.begin("The operator undoes that one signal.");
        let state = self.operator_json(&["state", "--issuer", orders::ISSUER, "--task", MISTAKEN])?;
        let signal = state["entries"][0]["signal"]["signal"].to_string();
        let undo = ["undo", &signal, "--reason", "the wrong task"].map(str::to_owned);
        let came = self.operator(&undo).map_or_else(|error| error.to_string(), |_| "undone".to_owned());
        steps.end("undone", &came);
        // Each asks for news all the time, and has it within milliseconds.
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.asked(steps, "The task goes on.", &token, "200 and 200").await
    }

    /// The timeline of the task that ended, and the report about all grants.
    pub async fn what_was_done(&self, steps: &mut Steps) -> Result<()> {
        println!("The proxies have counted every use, and hand it over once in {PERIOD}.\n");
        steps.begin("The timeline of the task has its uses, its end, and what was tried afterwards.");
        let deadline = Instant::now() + COUNTED;
        let expected = "first_use, ended, attempt_after_end";
        let mut came = self.moments()?;
        while came != expected && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(500)).await;
            came = self.moments()?;
        }
        self.operator(&["timeline", "--task", ENDED, "--since", "1h", "--feed", FEED].map(str::to_owned))?;
        steps.end(expected, &came);
        steps.begin("The report: how wide the grants were, and what went on after their end.");
        // The scope opens the live streams too, whatever they are called: that is why these grants have no bound.
        let expected = "3 grants, 3 unbounded, 4 permitted";
        let came = self.counted(expected).await?;
        self.operator(&["report", "--since", "1h", "--feed", FEED].map(str::to_owned))?;
        steps.end(expected, &came);
        let page = self.folder.join("report.html").display().to_string();
        let html = ["report", "--since", "1h", "--feed", FEED, "--output", "html", "--out", &page].map(str::to_owned);
        self.operator(&html)?;
        println!("        With --keep the page stays; it needs no network.\n");
        Ok(())
    }

    /// Waits until the report says this of all grants; what it says in the end.
    async fn counted(&self, expected: &str) -> Result<String> {
        let deadline = Instant::now() + COUNTED;
        let mut came = self.total()?;
        while came != expected && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(500)).await;
            came = self.total()?;
        }
        Ok(came)
    }

    /// What the report says of all grants.
    fn total(&self) -> Result<String> {
        let report = self.operator_json(&["report", "--since", "1h", "--feed", FEED])?;
        let total = &report["total"];
        Ok(format!("{} grants, {} unbounded, {} permitted", total["grants"], total["unbounded"], total["permitted"]))
    }

    /// Which of the moments that belong to the story of [`ENDED`] its timeline has, in order and each once.
    fn moments(&self) -> Result<String> {
        let timeline = self.operator_json(&["timeline", "--task", ENDED, "--since", "1h", "--feed", FEED])?;
        let all = timeline["moments"].as_array().into_iter().flatten().filter_map(|moment| moment["what"].as_str());
        let mut story = Vec::new();
        for what in all.filter(|what| ["first_use", "ended", "attempt_after_end"].contains(what)) {
            if !story.contains(&what) {
                story.push(what);
            }
        }
        Ok(story.join(", "))
    }

    /// The order, asked for at both proxies.
    async fn asked(&self, steps: &mut Steps, title: &str, token: &str, expected: &str) -> Result<()> {
        steps.begin(title);
        let mut came = Vec::new();
        for proxy in [&self.plain, &self.lone] {
            let request = Request::get(orders::ORDER_PATH).host(&proxy.app().to_string()).bearer(token);
            println!("      request   {}  (http://{})", request.line(), proxy.app());
            came.push(proxy.send(Http::One, &request).await?.line());
        }
        steps.end(expected, &came.join(" and "));
        Ok(())
    }

    fn complete(&self, task: &str) -> Vec<String> {
        let hub = format!("http://{}", self.hub.address());
        let words = ["signal", "complete", "--task", task, "--wait=3s", "--hub", &hub, "--feed", FEED];
        words.into_iter().map(str::to_owned).collect()
    }

    /// Runs the command as an operator, before the reader's eyes.
    fn operator(&self, arguments: &[String]) -> Result<String> {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        println!("      $ taskfence {}", arguments.join(" "));
        let (code, printed) = self.hub.try_command(&arguments)?;
        printed.lines().for_each(|line| println!("        {line}"));
        if code == 0 { Ok(printed) } else { Err(Error::new(format!("exit code {code}: {printed}"))) }
    }

    fn operator_json(&self, arguments: &[&str]) -> Result<Value> {
        let arguments: Vec<_> = arguments.iter().copied().chain(["--output", "json"]).collect();
        let printed = self.hub.command(&arguments)?;
        serde_json::from_str(&printed).map_err(Error::doing(format!("read {printed}")))
    }
}
