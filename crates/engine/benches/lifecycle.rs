//! How long a lone container's life takes through the engine, step by step: `cargo bench -p tug-engine`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{Node, sandbox};
use tug_engine::State;

const RUNS: usize = 60;
const WARM_UP: usize = 10;
const STEPS: [&str; 6] = ["sandbox", "create", "start", "exit", "remove", "all"];

#[tokio::main]
async fn main() {
    let node = Node::with_busybox().await;
    let mut times: [Vec<Duration>; STEPS.len()] = Default::default();
    for run in 0..WARM_UP + RUNS {
        let id = format!("bench-{run}");
        let began = Instant::now();
        let mut taken = Vec::new();
        let mut last = began;
        let mut step = || {
            let now = Instant::now();
            taken.push(now - last);
            last = now;
        };
        node.engine.create_sandbox(sandbox(&id)).await.expect("a sandbox");
        step();
        node.engine.create_container(node.spec(&id, &["true"])).await.expect("a container");
        step();
        node.engine.start_container(&id).await.expect("it starts");
        step();
        node.until(&id, |status| status.state == State::Exited).await;
        step();
        node.engine.remove_sandbox(&id).await.expect("it goes");
        step();
        taken.push(began.elapsed());
        if run >= WARM_UP {
            times.iter_mut().zip(taken).for_each(|(all, one)| all.push(one));
        }
    }
    for (name, times) in STEPS.iter().zip(&mut times) {
        times.sort_unstable();
        let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1000.0;
        println!("{name:8} median {:6.2} ms, 90 % within {:6.2} ms", at(50), at(90));
    }
    node.finish().await;
}
