use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::scenario::{ScenarioEvent, SignIn};

const SMALL: &str =
    "policy:\n  limits:\n    perClient: 1 # one\npeople:\n  - name: Carla\n    devices: [laptop, phone]\n";

fn with_steps(steps: &str) -> Result<Scenario, ScenarioError> {
    Scenario::parse(&format!("{SMALL}applications: [shop, crm]\nsteps:\n{steps}"))
}

fn error(text: &str) -> String {
    Scenario::parse(text).expect_err(text).to_string()
}

#[test]
fn scenario_keeps_its_policy_as_it_is_written() {
    let scenario = Scenario::parse(SMALL).unwrap();
    assert_eq!(scenario.policy, "limits:\n  perClient: 1 # one\n");
    assert_eq!((scenario.applications.as_slice(), scenario.steps.len()), (&["demo-app".to_owned()][..], 0));
    assert_eq!(scenario.people[0].user_id, "auth0|carla");
    for policy in ["policy: { limits: { perClient: 1 } }", "policy: |\n  limits: { perClient: 1 }"] {
        let text = format!("{policy}\npeople: [{{ name: Carla, devices: [laptop] }}]\n");
        let scenario = Scenario::parse(&text).unwrap();
        let value: Value = serde_saphyr::from_str(&scenario.policy).unwrap();
        assert_eq!(value, json!({ "limits": { "perClient": 1 } }), "{text}");
    }
}

#[test]
fn every_step_is_read_and_written() {
    let text = "  - sign in: Carla on laptop\n  - sign in: carla on phone to crm with mfa\n    expect: blocked limit_exceeded\n  \
                - at once: [Carla on laptop, Carla on phone to crm]\n    expect: allowed, blocked\n  \
                - sign out: Carla on laptop\n  - close browser: Carla on phone\n  - pass: 1d2h\n  \
                - auth0: slow\n  - auth0: limited\n  - auth0: down\n  - auth0: works\n  - service: down\n  - service: works\n";
    let scenario = with_steps(text).unwrap();
    assert_eq!(scenario.steps.len(), 12);
    let ScenarioEvent::SignIn(SignIn { at, application, mfa }) = &scenario.steps[1].event else { panic!() };
    assert_eq!((at.person.as_str(), application.as_str(), *mfa), ("Carla", "crm", true));
    let written = scenario.to_yaml();
    assert_eq!(Scenario::parse(&written).unwrap(), scenario, "{written}");
}

#[test]
fn error_names_the_line_and_what_to_write() {
    let step = |step: &str| with_steps(&format!("  - sign in: Carla on laptop\n  - {step}\n")).unwrap_err();
    for (text, message) in [
        (
            "sing in: Carla on laptop",
            "`sing in` is no step: did you mean `sign in`? The steps are `sign in:`, `sign out:`",
        ),
        ("sign in: Carla", "write PERSON on DEVICE"),
        ("sign in: 7", "write PERSON on DEVICE"),
        ("sign in: Dora on laptop", "there is no person `Dora`: write Carla"),
        ("sign in: Carla on watch", "Carla has no device `watch`: write laptop or phone"),
        ("sign in: Carla on phone to erp", "there is no application `erp`: write shop or crm"),
        ("sign out: Carla on phone to crm", "write PERSON on DEVICE"),
        ("pass: two hours", "write one such as 30s"),
        ("pass: 900d", "write a duration from 1s to 60d"),
        ("auth0: broken", "works, slow, limited or down"),
        ("service: slow", "write `service: works` or `service: down`"),
        ("at once: [Carla on phone]", "write a list of 2 to 8 logins"),
        ("at once: [Carla on phone, Carla on phone to crm]", "logs in twice at once"),
        ("{ sign in: Carla on phone, pass: 2h }", "a step is one thing"),
        ("sign in", "write one of `sign in:`"),
        ("{ pass: 2h, expect: allowed }", "`expect` is for logins"),
        ("{ sign in: Carla on phone, expect: refused }", "`refused` is no outcome: write allowed or blocked"),
        ("{ sign in: Carla on phone, expct: allowed }", "`expct` is no step: did you mean `expect`?"),
        ("{ sign in: Carla on phone, expect: blocked limit_exceded }", "is no reason: did you mean `limit_exceeded`?"),
        ("{ sign in: Carla on phone, expect: evicts watch }", "there is no device `watch`: write laptop or phone"),
        ("{ sign in: Carla on phone, expect: asks limit_exceeded }", "write `asks` alone"),
        ("{ sign in: Carla on phone, expect: 'allowed, allowed' }", "write one outcome for each"),
    ] {
        let error = step(text);
        assert_eq!(error.line, Some(10), "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
    }
}

#[test]
fn error_of_the_frame_names_the_line() {
    for (text, line, message) in [
        ("polcy: {}\n", "line 1: ", "polcy"),
        ("policy: {}\n", "", "people"),
        ("policy: {}\npeople: []\n", "line 2: ", "write 1 to 12 people"),
        ("policy: {}\npeople:\n  - name: Car la\n    devices: [a]\n", "line 3: ", "without spaces"),
        ("policy: {}\npeople:\n  - name: on\n    devices: [a]\n", "line 3: ", "is a word of steps"),
        ("policy: {}\npeople:\n  - name: A\n    devices: []\n", "line 3: ", "1 to 6 devices"),
        ("policy: {}\nfailMode: maybe\npeople: [{ name: A, devices: [a] }]\n", "line 2: ", "write allow or deny"),
        ("policy: {}\nstart: yesterday\npeople: [{ name: A, devices: [a] }]\n", "line 2: ", "write one such as"),
        ("policy: {\n", "line ", ""),
        ("", "", ""),
    ] {
        let error = error(text);
        assert!(error.starts_with(line) && error.contains(message), "{text:?}: {error}");
    }
}

#[test]
fn bytes_steps_and_values_are_bounded() {
    let steps = |count: usize| with_steps(&"  - pass: 1h\n".repeat(count));
    assert_eq!(steps(MAX_STEPS).unwrap().steps.len(), MAX_STEPS);
    assert!(steps(MAX_STEPS + 1).unwrap_err().message.contains("at most 200"));
    assert!(error(&format!("{SMALL}# {}", "x".repeat(MAX_BYTES))).contains("at most 32768"));
    assert!(error(&format!("policy: [{}]\n", "0,".repeat(MAX_VALUES))).len() < 300);
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n\
                policy: [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n";
    assert!(error(bomb).len() < 300);
}

proptest! {
    #[test]
    fn any_text_is_read_or_has_an_error(text in "(?s).{0,200}") {
        let _ = Scenario::parse(&text);
        let _ = with_steps(&text);
    }

    #[test]
    fn what_is_written_is_read(title in "[^\\n\\p{C}]{1,40}", roles in prop::collection::vec("[^\\p{C}]{1,20}", 0..3), hours in 1u64..1_440) {
        let mut scenario = with_steps("  - sign in: Carla on phone\n").unwrap();
        (scenario.title, scenario.people[0].roles) = (title, roles);
        scenario.steps.push(ScenarioStep {
            event: ScenarioEvent::Pass(std::time::Duration::from_secs(3_600 * hours)),
            expect: None,
        });
        let written = scenario.to_yaml();
        prop_assert_eq!(Scenario::parse(&written).map_err(|error| format!("{error}\n{written}")), Ok(scenario));
    }
}
