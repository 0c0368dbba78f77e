use super::*;

const HEADER: &str = "device_id,runtime,backend,model,quant,phase,n_gen,n_depth,tokens_per_second";

fn read(text: &str) -> Speeds {
    read_csv(text, &Origin::default()).unwrap()
}

#[test]
fn columns_are_found_by_name_and_the_rest_is_absent() {
    let text = format!("{HEADER},colour\npi5,llama.cpp,CPU,m,q4_k_m,tg,128,4096,8.5,red\n");
    let speeds = read(&text);
    let (line, row) = &speeds.rows[0];
    assert_eq!((*line, row.quant.as_str(), row.backend.as_str()), (2, "Q4_K_M", "cpu"));
    assert_eq!((row.phase, row.threads, row.kv_len), (SpeedPhase::Decode, None, Some(4160.0)));
    assert!(speeds.warnings[0].contains("colour"), "{:?}", speeds.warnings);
}

#[test]
fn what_is_wrong_is_told_by_line_and_column() {
    let rows = [
        ("pi5,llama.cpp,cpu,m,q4_0,decode,128,0", "8 cells where the header has 9"),
        ("pi5,llama.cpp,cpu,m,q4_0,decode,many,0,8", "`n_gen` is `many`"),
        ("pi5,llama.cpp,cpu,m,q4_0,decode,-1,0,8", "`n_gen` is `-1`"),
        ("pi5,llama.cpp,cpu,m,q4_0,training,128,0,8", "`phase` is `training`"),
        ("pi5,llama.cpp,cpu,m,q4_0,decode,128,0,0", "`tokens_per_second` is 0"),
        ("pi5,llama.cpp,cpu,m,q4_0,decode,128,0,NaN", "`tokens_per_second` is NaN"),
        ("pi5,llama.cpp,cpu,m,q4_0,decode,128,0,", "`tokens_per_second` is empty"),
        ("pi5,,cpu,m,q4_0,decode,128,0,8", "`runtime` is empty"),
        ("pi5,llama.cpp,cpu,m,q4_0,decode,0,0,8", "`n_gen` is 0 in a decode row"),
    ];
    let text: String = rows.iter().map(|(row, _)| format!("{row}\n")).collect();
    let speeds = read(&format!("{HEADER}\n{text}"));
    assert_eq!(speeds.rows, []);
    for (index, (problem, (row, reason))) in speeds.problems.iter().zip(rows).enumerate() {
        assert_eq!(problem.line as usize, index + 2, "{row}");
        assert!(problem.reason.contains(reason), "{row}: {}", problem.reason);
    }
    assert_eq!(speeds.problems.len(), rows.len());
}

#[test]
fn a_header_must_have_what_every_row_needs() {
    let error = read_csv("model,quant\na,b\n", &Origin::default()).unwrap_err().to_string();
    assert!(error.contains("line 1: no column `runtime`"), "{error}");
    let twice = format!("{HEADER},phase\n");
    let error = read_csv(&twice, &Origin::default()).unwrap_err().to_string();
    assert!(error.contains("`phase` is there twice"), "{error}");
    // What the caller tells needs no column.
    let origin = Origin { device_id: Some("mine".into()), ..Origin::default() };
    let text = HEADER.replace("device_id,", "") + "\nllama.cpp,cpu,m,q4_0,decode,128,0,8\n";
    assert_eq!(read_csv(&text, &origin).unwrap().rows[0].1.device_id, "mine");
}

#[test]
fn cells_may_hold_commas_quotes_and_lines() {
    let mut row = read(&format!("{HEADER}\npi5,x,cpu,m,q4_0,decode,1,0,8\n")).rows.remove(0).1;
    row.notes = Some("a, \"b\"\nc".into());
    row.flags = vec!["rounded".into(), "old".into()];
    row.excluded = Some("no, never".into());
    let text = to_csv(&[row.clone()]).unwrap();
    assert!(text.starts_with("source_url,source_date,runtime,"), "{text}");
    assert!(text.lines().next().unwrap().ends_with(",notes,flags,excluded"), "{text}");
    assert_eq!(read(&text).rows, [(2, row)]);
}

#[test]
fn semicolons_between_cells_are_read_and_decimal_commas_are_named() {
    let header = "runtime;device_id;backend;model;quant;phase;tokens_per_second";
    assert!(is_header(header));
    let text = format!("{header}\nx;d;cpu;m;q4_0;decode;8.5\nx;d;cpu;m;q4_0;decode;8,5\n");
    let speeds = read_csv(&text, &Origin::default()).unwrap();
    assert_eq!(speeds.rows.len(), 1);
    assert_eq!(speeds.rows[0].1.tokens_per_second, 8.5);
    assert!(speeds.problems[0].reason.contains("with a point"), "{:?}", speeds.problems);
}
