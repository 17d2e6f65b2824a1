//! What newcomers run first works: every step of the demo, and leaving it running.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

fn demo() -> Command {
    Command::new(env!("CARGO_BIN_EXE_demo"))
}

#[test]
fn every_step_comes_out_as_expected() {
    let run = demo().output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{}\n{said}\n{complained}", run.status);
    let steps = said.lines().filter(|line| line.trim_start().starts_with("expected ")).count();
    assert_eq!(said.lines().last(), Some(format!("demo: {steps} of {steps} steps as expected").as_str()), "{said}");
    assert!(steps >= 10, "{steps} steps are not the whole job:\n{said}");
}

#[test]
fn it_keeps_running_until_it_is_told_to_end() {
    let mut demo = demo().arg("--keep").stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(demo.stdout.take().unwrap()).lines().map_while(Result::ok);
    let said: Vec<_> = lines.take_while(|line| line != "Ctrl-C ends it.").collect();
    let text = said.join("\n");
    let envoy = text.split_once("Envoy (process ").and_then(|(_, rest)| rest.split_once(')')).map(|(id, _)| id);
    let envoy = envoy.unwrap_or_else(|| panic!("no process in\n{text}"));
    assert!(is_alive(envoy), "Envoy does not keep running\n{text}");
    assert!(said.iter().any(|line| line.trim_start().starts_with("curl ")), "no line to try in\n{text}");

    signal("INT", &demo.id().to_string());
    assert!(ends(&mut demo), "Ctrl-C does not end the demo");
    assert!(!is_alive(envoy), "the demo is gone and its Envoy still runs");
}

/// Whether it ended well, and soon.
fn ends(process: &mut Child) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if let Some(status) = process.try_wait().unwrap() {
            return status.success();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = process.kill();
    let _ = process.wait();
    false
}

fn is_alive(process: &str) -> bool {
    signal("0", process)
}

fn signal(name: &str, process: &str) -> bool {
    let kill = Command::new("sh").args(["-c", "kill -s \"$1\" \"$2\" 2>&1", "kill", name, process]).output();
    kill.unwrap().status.success()
}
