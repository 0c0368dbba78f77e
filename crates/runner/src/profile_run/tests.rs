use std::cell::Cell;

use foretoken_spec::Slice;

use super::*;
use crate::mock::tests::tiny;
use crate::{MockEngine, MockPass};

const MS: u64 = 1_000_000;

/// A prompt takes 1 ms per token, a step 10 ms; softmax and draw 1 ms each.
fn engine() -> MockEngine {
    MockEngine::new(|_, pass| {
        let forward_ns = if pass.kv_len == 0 { u64::from(pass.n_tokens) * MS } else { 10 * MS };
        let slice =
            Slice { op: KernelOp::Uncovered, role: None, layer: None, start_ns: 0, ns: forward_ns };
        MockPass {
            forward_ns,
            softmax_ns: MS,
            sampling_ns: MS,
            slices: vec![slice],
            ..MockPass::default()
        }
    })
}

fn plan(model: &ModelSpec, prompt: ProfilePrompt, generated_tokens: u32) -> ProfilePlan<'_> {
    ProfilePlan {
        model,
        prompt,
        generated_tokens,
        overhead_budget: 0.005,
        pair_budget: Duration::from_secs(1),
        tool: crate::tool_info("0"),
    }
}

fn run(engine: &mut MockEngine, plan: &ProfilePlan<'_>) -> Result<Timeline, RunError> {
    run_profile(engine, plan, &mut || Ok(None), &mut |_| {}, &|| false)
}

#[test]
fn a_run_is_its_stretches_and_passes() {
    let model = tiny("m");
    let timeline = run(&mut engine(), &plan(&model, ProfilePrompt::Tokens(20), 9)).unwrap();
    let ops: Vec<_> = timeline.stretches.iter().map(|s| s.op).collect();
    assert_eq!(ops, [KernelOp::Load, KernelOp::Warmup]);
    let kv: Vec<_> = timeline.passes.iter().map(|p| p.sample.kv_len).collect();
    assert_eq!(kv, [0, 20, 21, 22, 23, 24, 25, 26, 27]);
    assert_eq!(timeline.passes[0].phase, Phase::Prefill);
    let stretches: u64 = timeline.stretches.iter().map(|s| s.ns).sum();
    let passes: u64 = timeline.passes.iter().map(TimedPass::total_ns).sum();
    assert_eq!(stretches + passes, timeline.end_ns);
    assert!(!timeline.interrupted);
}

#[test]
fn of_two_steps_one_is_probed_and_they_are_a_pair() {
    let model = tiny("m");
    let timeline = run(&mut engine(), &plan(&model, ProfilePrompt::Tokens(20), 9)).unwrap();
    let probed: Vec<_> = timeline.passes.iter().map(|p| p.sample.probed).collect();
    assert!(probed[0] && probed[1]);
    assert!(probed[1..].chunks(2).all(|two| two[0] != two[1]), "{probed:?}");
    assert!(timeline.passes.iter().all(|p| p.sample.probed != p.slices.is_empty()));
    // Four in the run; the rest came after it.
    assert_eq!(timeline.pairs.decode.pairs.len(), ENOUGH_PAIRS);
    // The mock records two edges for its only slice.
    assert_eq!((timeline.pairs.prefill.events, timeline.pairs.decode.events), (2, 2));
    assert_eq!(timeline.pairs.prefill.pairs.len(), ENOUGH_PAIRS);
    assert_eq!(timeline.pairs.prefill.n_tokens, 20);
}

#[test]
fn long_prompts_are_cut_for_the_pairs() {
    let model = tiny("m");
    let timeline = run(&mut engine(), &plan(&model, ProfilePrompt::Tokens(1000), 1)).unwrap();
    assert_eq!(timeline.pairs.prefill.n_tokens, 100);
    assert_eq!(timeline.pairs.decode.pairs, []);
}

#[test]
fn probes_that_cost_too_much_skip_steps() {
    let model = tiny("m");
    let plan = plan(&model, ProfilePrompt::Tokens(20), 100);
    // Two events of 200 µs in a step of 10 ms are 4 %: eight times the budget.
    let mut engine = engine().with_ns_per_event(200_000.0);
    let timeline = run(&mut engine, &plan).unwrap();
    assert_eq!(timeline.sampled_every, 8);
    let probed: Vec<_> = timeline.passes.iter().map(|p| p.sample.probed).collect();
    assert!(probed[0] && probed[1]);
    for (block, steps) in probed[1..].chunks_exact(8).enumerate() {
        assert_eq!(steps.iter().filter(|probed| **probed).count(), 1, "{block}");
        assert!(steps[0] || steps[1], "{block}");
    }
}

#[test]
fn neither_order_of_a_pair_is_the_rule() {
    let first = (0..1000).filter(|block| is_probed(2 * block, 2)).count();
    assert!((400..600).contains(&first), "{first}");
    let longest = (0..2000).filter(|step| is_probed(*step, 2)).collect::<Vec<_>>();
    assert!(longest.windows(2).all(|two| two[1] - two[0] <= 3));
}

#[test]
fn a_long_run_has_its_pairs_of_its_own() {
    let model = tiny("m");
    let timeline = run(&mut engine(), &plan(&model, ProfilePrompt::Tokens(20), 101)).unwrap();
    assert_eq!(timeline.pairs.decode.pairs.len(), 50);
    assert_eq!(timeline.pairs.decode.events, 2);
}

#[test]
fn a_stop_keeps_what_was_measured() {
    let model = tiny("m");
    let asked = Cell::new(0);
    // The stop is asked for before each pass: the warm-up has five.
    let stop = || asked.replace(asked.get() + 1) >= 12;
    let mut engine = engine();
    let plan = plan(&model, ProfilePrompt::Tokens(20), 100);
    let timeline = run_profile(&mut engine, &plan, &mut || Ok(None), &mut |_| {}, &stop).unwrap();
    assert!(timeline.interrupted);
    assert!((1..99).contains(&timeline.passes.len()), "{}", timeline.passes.len());
    assert!(!timeline.passes[0].slices.is_empty());
    let at_once = run_profile(&mut engine, &plan, &mut || Ok(None), &mut |_| {}, &|| true).unwrap();
    assert!(at_once.interrupted && at_once.passes.is_empty());
}

/// Words are tokens by their length; 3 is the end.
struct Words;

impl TextCodec for Words {
    fn encode(&mut self, text: &str) -> Vec<u32> {
        text.split_whitespace().map(|word| word.len() as u32).collect()
    }

    fn next_text(&mut self, token: u32) -> String {
        format!("<{token}>")
    }

    fn is_end(&self, token: u32) -> bool {
        token == 20
    }
}

fn run_text(text: &str) -> Result<Timeline, RunError> {
    let model = tiny("m");
    let plan = plan(&model, ProfilePrompt::Text(text.into()), 50);
    let mut open = || Ok(Some(Box::new(Words) as Box<dyn TextCodec>));
    run_profile(&mut engine(), &plan, &mut open, &mut |_| {}, &|| false)
}

#[test]
fn a_text_is_tokenized_and_answered_until_the_model_ends() {
    let timeline = run_text("one three five").unwrap();
    assert_eq!(timeline.passes[0].sample.n_tokens, 3);
    // The mock counts its tokens up; the warm-up drew some.
    let text = timeline.generated_text.unwrap();
    assert!(text.ends_with("<20>"), "{text}");
    assert!(!timeline.interrupted);
}

#[test]
fn texts_that_cannot_be_run_are_refused() {
    assert!(matches!(run_text(" "), Err(RunError::EmptyPrompt)));
    let long = "a".repeat(600);
    let error = run_text(&long).unwrap_err().to_string();
    assert!(error.contains("token 600") && error.contains("512"), "{error}");
    let many = "word ".repeat(5000);
    assert!(run_text(&many).is_err());
    let model = tiny("m");
    let plan = plan(&model, ProfilePrompt::Text("a".into()), 5);
    let error = run(&mut engine(), &plan).unwrap_err().to_string();
    assert!(error.contains("no tokenizer") && error.contains("--prompt N"), "{error}");
}
