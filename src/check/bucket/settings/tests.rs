use super::*;

const PREFIX: &str = "pre/checkpoints/";

fn rules(rules: &str) -> Result<Vec<Rule>, String> {
    lifecycle::rules(&format!(
        "<?xml version=\"1.0\"?><LifecycleConfiguration \
         xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{rules}</LifecycleConfiguration>"
    ))
}

fn rule(filter: &str, action: &str) -> String {
    format!("<Rule><ID>r</ID>{filter}<Status>Enabled</Status>{action}</Rule>")
}

const OLD: &str = "<NoncurrentVersionExpiration><NoncurrentDays>3</NoncurrentDays>\
                   </NoncurrentVersionExpiration>";
const KEPT: Versions = Versions::Kept {
    is_suspended: false,
};

fn judged(versions: &Versions, filter: &str, action: &str) -> Finding {
    judge_versions(versions, &rules(&rule(filter, action)), PREFIX)
}

#[test]
fn a_rule_that_removes_old_versions_of_checkpoints_is_well_however_it_is_written() {
    for filter in [
        "<Prefix></Prefix>",
        "<Prefix>pre/</Prefix>",
        "<Filter/>",
        "<Filter><Prefix>pre/checkpoints/</Prefix></Filter>",
        "<Filter><And><Prefix>pre/check</Prefix></And></Filter>",
    ] {
        let found = judged(&KEPT, filter, OLD);
        assert!(
            matches!(&found, Finding::Well(answer) if answer.contains("after 3 days")),
            "{filter}: {found:?}"
        );
    }
}

#[test]
fn old_versions_that_nothing_removes_are_noted_with_the_rule_to_add() {
    for (filter, action) in [
        ("<Filter><Prefix>pre/parquet_files/</Prefix></Filter>", OLD),
        ("<Filter><Prefix>pre/checkpoints/g/</Prefix></Filter>", OLD),
        (
            "<Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter>",
            OLD,
        ),
        ("<Filter/>", "<AbortIncompleteMultipartUpload/>"),
    ] {
        let Finding::Noted(problem) = judged(&KEPT, filter, action) else {
            panic!("{filter}");
        };
        let rule = problem.command.unwrap();
        let rule: serde_json::Value = serde_json::from_str(&rule).unwrap();
        assert_eq!(rule["NoncurrentVersionExpiration"]["NoncurrentDays"], 7);
        assert_eq!(rule["Filter"]["Prefix"], PREFIX);
    }
    let disabled = rule("<Filter/>", OLD).replace("Enabled", "Disabled");
    let found = judge_versions(&KEPT, &rules(&disabled), PREFIX);
    assert!(matches!(found, Finding::Noted(_)), "{found:?}");
    let none = judge_versions(&Versions::Never, &Ok(Vec::new()), PREFIX);
    assert!(matches!(none, Finding::Well(_)), "{none:?}");
}

#[test]
fn a_rule_that_removes_checkpoints_themselves_is_wrong() {
    let expires = "<Expiration><Days>30</Days></Expiration>";
    for versions in [&KEPT, &Versions::Never] {
        let found = judged(versions, "<Filter/>", expires);
        assert!(matches!(&found, Finding::Wrong(_)), "{found:?}");
    }
    let data = judged(
        &Versions::Never,
        "<Filter><Prefix>pre/p</Prefix></Filter>",
        expires,
    );
    assert!(matches!(data, Finding::Well(_)), "{data:?}");
}

#[test]
fn what_may_not_be_looked_at_is_said_and_no_failure() {
    let denied = Err("403 AccessDenied".to_owned());
    for versions in [
        KEPT,
        Versions::Never,
        Versions::Unknown("403 AccessDenied".to_owned()),
    ] {
        let Finding::Noted(problem) = judge_versions(&versions, &denied, PREFIX) else {
            panic!("{versions:?}");
        };
        assert!(problem.answer.contains("403"), "{problem:?}");
    }
    assert!(rules("<Rule>").is_err());
}

#[test]
fn a_clock_that_a_store_would_refuse_is_wrong_and_one_that_is_off_is_noted() {
    let at = |ahead_s: i64| judge_clock(1_000_000_500 + ahead_s * 1000, Some(1_000_000_000));
    assert!(matches!(at(0), Finding::Well(_)));
    assert!(matches!(at(-20), Finding::Well(_)));
    let Finding::Noted(behind) = at(-120) else {
        panic!("{:?}", at(-120));
    };
    assert!(behind.answer.contains("2m behind"), "{behind:?}");
    let Finding::Wrong(ahead) = at(3600) else {
        panic!("{:?}", at(3600));
    };
    assert!(ahead.answer.contains("1h ahead"), "{ahead:?}");
    assert!(matches!(judge_clock(0, None), Finding::Well(_)));
}
