use super::*;

fn of(lines: &[&str]) -> Inference {
    infer(lines.join("\n").as_bytes(), Limits::default()).unwrap()
}

/// Each column as `name path type nullable`.
fn words(inference: &Inference) -> Vec<String> {
    let columns = inference.columns.iter().map(|proposal| {
        let column = &proposal.column;
        let ColumnSource::Path(path) = &column.source else {
            panic!("no path");
        };
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let null = if column.nullable { " null" } else { "" };
        let kind = type_words(column.kind);
        format!("{} {} {kind}{null}", column.name, path_words(&path))
    });
    columns.collect()
}

#[test]
fn the_space_station_gets_the_table_that_a_person_would_write() {
    let lines: Vec<String> = (0..6)
        .map(|n| format!(r#"{{"message": "success", "timestamp": 173552047{n}, "iss_position": {{"latitude": "-8.706{n}", "longitude": "137.646{n}"}}}}"#))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    assert_eq!(
        words(&of(&lines)),
        [
            "message message string",
            "timestamp timestamp timestamp(s)",
            "iss_position_latitude iss_position.latitude float64",
            "iss_position_longitude iss_position.longitude float64",
        ]
    );
}

#[test]
fn a_type_is_what_all_samples_hold() {
    let sample = of(&[
        r#"{"i":1,"f":1,"b":true,"s":"x","t":"2015-09-12T00:46:58.771Z","n":null,"l":[1],"m":1,"e":[],"o":[{}],"x":[1,"a"],"big":18446744073709551615,"h":{}}"#,
        r#"{"i":2,"f":1.5,"b":false,"s":"2015-09-12T00:46:58Z","t":"2015-09-12T00:46:58Z","n":null,"l":[2.5,null],"m":"1","e":[],"o":[],"x":[],"big":1,"h":{}}"#,
    ]);
    assert_eq!(
        words(&sample),
        [
            "i i int64",
            "f f float64",
            "b b bool",
            "s s string",
            "t t timestamp(rfc3339)",
            "n n json null",
            "l l list(float64)",
            "m m json",
            "e e json",
            "o o json",
            "x x json",
            "big big json",
            "h h json",
        ]
    );
}

#[test]
fn what_is_ever_null_or_missing_is_nullable() {
    let sample = of(&[
        r#"{"a":1,"b":{"c":1,"d":1},"e":null}"#,
        r#"{"a":null,"b":{"c":2},"e":2}"#,
        r#"{"a":2,"b":{"c":2,"d":1},"e":3}"#,
    ]);
    let expected = [
        "a a int64 null",
        "b_c b.c int64",
        "b_d b.d int64 null",
        "e e int64 null",
    ];
    assert_eq!(words(&sample), expected);
    let sample = of(&[r#"{"b":{"c":1}}"#, r#"{"b":null}"#]);
    assert_eq!(words(&sample), ["b_c b.c int64 null"]);
    let sample = of(&[r#"{"b":{"c":1}}"#, r#"{"b":5}"#]);
    assert_eq!(words(&sample), ["b b json"]);
}

#[test]
fn names_that_are_digits_stay_strings() {
    let lines =
        ["007", "37868143", "12", "13", "14", "15"].map(|id| format!("{{\"id\":\"{id}\"}}"));
    assert_eq!(
        words(&of(&lines.each_ref().map(String::as_str))),
        ["id id string"]
    );
    let lines = ["1.5"; 9].map(|version| format!("{{\"v\":\"{version}\"}}"));
    assert_eq!(
        words(&of(&lines.each_ref().map(String::as_str))),
        ["v v string"]
    );
}

#[test]
fn whole_numbers_are_times_by_name_and_size_alone() {
    for (key, value, kind) in [
        ("time", 1_517_966_773_840_i64, "timestamp(ms)"),
        ("created_at", 1_517_966_773, "timestamp(s)"),
        ("ts", 1_517_966_773_840_000, "timestamp(us)"),
        ("createdAt", 1_517_966_773, "timestamp(s)"),
        ("runtime", 5, "int64"),
        ("id", 1_517_966_773, "int64"),
        ("time", 900_000_000, "int64"),
    ] {
        let line = format!("{{\"{key}\":{value}}}");
        assert_eq!(words(&of(&[&line])), [format!("{key} {key} {kind}")]);
    }
    let mixed = of(&[r#"{"ts":1517966773}"#, r#"{"ts":1517966773840}"#]);
    assert_eq!(words(&mixed), ["ts ts int64"]);
}

#[test]
fn columns_of_one_name_are_told_and_never_merged() {
    let sample = of(&[r#"{"a.b":1,"a":{"b":"x"},"A_B":true}"#]);
    let expected = ["a_b 'a.b' int64", "a_b_2 a.b string", "A_B_3 A_B bool"];
    assert_eq!(words(&sample), expected);
    assert_eq!(sample.collisions.len(), 2);
    assert!(sample.collisions[0].starts_with("'a.b' and a.b would both be named a_b"));
    let mut names: Vec<String> = sample
        .columns
        .iter()
        .map(|c| c.column.name.to_lowercase())
        .collect();
    names.dedup();
    assert_eq!(names.len(), 3);
    assert!(
        sample
            .to_string()
            .contains("# 'a.b' and a.b would both be named a_b")
    );
}

#[test]
fn names_of_our_own_columns_are_left_to_them() {
    let sample = of(&[r#"{"Date":"x","kafka_offset":1,"_extra":2,"5g":true,"":1,"größe (m)":1}"#]);
    assert_eq!(
        words(&sample),
        [
            "value_Date Date string",
            "value_kafka_offset kafka_offset int64",
            "value_extra _extra int64",
            "_5g 5g bool",
            "column '' int64",
            "größe__m_ 'größe (m)' int64",
        ]
    );
}

#[test]
fn what_is_printed_is_toml_with_the_same_columns() {
    let sample = of(&["{\"it's\\n\\\"x\\\"\":{\"a.b\":[1]},\"n\":null}"]);
    let text = sample.to_string();
    let table: toml::Table = text.parse().unwrap();
    let columns = table["table"]["columns"].as_array().unwrap();
    assert_eq!(columns[0]["name"].as_str(), Some("it_s__x__a_b"));
    assert_eq!(
        columns[0]["path"].as_str(),
        Some("\"it's\\u000A\\\"x\\\"\".'a.b'")
    );
    assert_eq!(columns[0]["type"].as_str(), Some("list(int64)"));
    assert_eq!(columns[0]["nullable"].as_bool(), Some(false));
    assert!(text.contains("# null in every sample"));
}

#[test]
fn lines_that_are_no_objects_are_skipped_and_told() {
    let sample = of(&["", "nope", r#"{"a":1}"#, "[1]", r#"{"a":2}{"a":3}"#]);
    assert_eq!((sample.samples, sample.columns.len()), (1, 1));
    assert!(sample.warnings[0].starts_with("3 lines skipped, the first is line 2: "));
    let none = |text: &str| {
        infer(text.as_bytes(), Limits::default())
            .unwrap_err()
            .to_string()
    };
    assert!(none("").ends_with("it is empty"));
    assert!(none("[{\"a\":1}]").contains("an array"));
}

#[test]
fn a_sample_of_any_size_takes_bounded_memory() {
    let limits = Limits {
        lines: 3,
        line_bytes: 40,
        keys: 2,
    };
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(50));
    let lines = [
        &long,
        r#"{"a":1,"b":1,"c":1}"#,
        r#"{"a":2}"#,
        r#"{"a":"x"}"#,
    ]
    .join("\n");
    let sample = infer(lines.as_bytes(), limits).unwrap();
    assert_eq!(words(&sample), ["a a int64", "b b int64 null"]);
    assert_eq!(sample.warnings.len(), 2);
    let map: Vec<String> = (0..300)
        .map(|n| format!("{{\"m\":{{\"k{n}\":1}}}}"))
        .collect();
    let map: Vec<&str> = map.iter().map(String::as_str).collect();
    assert_eq!(words(&of(&map)), ["m m json"]);
}
