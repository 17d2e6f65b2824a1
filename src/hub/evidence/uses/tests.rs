//! Whatever a proxy sends, the hub answers, and stores nothing beyond its bounds.

use super::*;
use proptest::prelude::*;
use serde_json::json;
use std::sync::LazyLock;
use taskfence_core::uses::outline::RuleOutline;

const NOW: u64 = 1_795_867_200_000;
const VM: &str = "00000000000000aa";

static FEED: LazyLock<Arc<Feed>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let config = crate::testing::config(folder.path());
    let hub = crate::config::compile::compile(config.to_string().as_bytes()).unwrap();
    Arc::clone(&hub.feeds[0])
});

fn checked(post: &Value) -> Result<Checked, String> {
    Checked::new(post.to_string().as_bytes(), &FEED, "mesh", (NOW, NOW - DAY))
}

fn outline(config: &str) -> Value {
    json!({"config": config, "rules": [{"name": "read", "effect": "require"}]})
}

fn batch(number: u64) -> Value {
    json!({"vm": VM, "number": number, "since": NOW - 1, "until": NOW, "rules": [], "grants": []})
}

/// Any JSON, of names that a post has and of others.
fn anything() -> impl Strategy<Value = Value> {
    let text = prop_oneof![Just("x".repeat(3_000)), Just(VM.to_owned()), "[a-z\u{0}]{0,5}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        text.prop_map(Value::from),
        Just(outline("c")),
        Just(batch(1)),
    ];
    let name = prop_oneof![
        3 => proptest::sample::select(vec!["vm", "number", "since", "until", "rules", "config", "name", "effect", "detail", "type", "hosts"])
            .prop_map(str::to_owned),
        1 => "[a-z]{0,3}",
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_json_has_an_answer(part in proptest::sample::select(vec!["batches", "gaps", "configs"]), value in anything()) {
        let _ = checked(&value);
        // Beside what is good in each of them.
        let mut post = json!({"format": 1, "proxy": "follower-1", "node": "a", "batches": [batch(7)],
            "gaps": [{"vm": VM, "since": NOW - 1, "until": NOW}], "configs": [outline("good")]});
        post[part].as_array_mut().unwrap().insert(0, value);
        let read = checked(&post).map_err(TestCaseError::fail)?;
        prop_assert!(read.wrong.as_ref().is_none_or(|wrong| wrong.len() < 400), "{:?}", read.wrong);
        let mut good = [false; 3];
        for write in &read.writes {
            match write {
                Write::Batch(batch) => good[0] |= batch.batch.number == 7,
                Write::Gap { gap, .. } => good[1] |= gap.until == NOW,
                Write::Config { outline, .. } => good[2] |= outline.config == "good",
                Write::Event(_) => prop_assert!(false, "an event"),
            }
        }
        prop_assert_eq!(good, [true; 3], "{:?}", read.wrong);
    }
}

#[test]
fn rules_of_another_shape_stop_nothing_else() {
    let post = json!({"format": 1, "proxy": "follower-1", "node": "a", "batches": [batch(7)],
        "gaps": [5], "configs": [{"config": "x".repeat(5_000), "rules": []}, {"config": 3, "rules": []}, outline("good")]});
    let read = checked(&post).unwrap();
    assert_eq!((read.writes.len(), read.ids.len(), read.wrong_batches), (2, 1, 0));
    assert_eq!(read.wrong.unwrap(), "`gaps[0]` cannot be read: invalid type: integer `5`, expected struct Gap");
}

#[test]
fn what_rules_take_in_memory_counts() {
    let rules = vec![json!({"name": "", "effect": ""}); 4_096];
    let configs: Vec<_> = (0..9).map(|at| json!({"config": at.to_string(), "rules": rules})).collect();
    let post = |configs: &[Value]| json!({"format": 1, "proxy": "follower-1", "node": "a", "configs": configs});
    assert!(post(&configs).to_string().len() < MAX_BODY);
    let read = checked(&post(&configs[..1])).unwrap();
    assert!(read.weight > 4_096 * size_of::<RuleOutline>(), "{}", read.weight);
    assert!(checked(&post(&configs)).unwrap_err().contains("too many values"));
}
