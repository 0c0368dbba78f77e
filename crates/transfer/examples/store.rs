//! scratch
use foretoken_transfer::*;
fn main() {
    let rows =
        foretoken_import::read_speed_rows(std::path::Path::new("datasets/public/measurements.csv"))
            .unwrap();
    let shapes = ModelShapes::read(
        &std::fs::read_to_string("datasets/public/models.csv").unwrap(),
        "models.csv",
    )
    .unwrap();
    let find = |id: &str| foretoken_devices::find(id).ok().cloned();
    let store = Store::join(&rows, &find, &shapes);
    let t = std::time::Instant::now();
    let path = std::path::Path::new("/tmp/cross.json");
    let model = if std::env::args().nth(1).as_deref() == Some("load") {
        CrossDevice::from_json(&std::fs::read_to_string(path).unwrap()).unwrap()
    } else {
        CrossDevice::fit(&store, vec![], "x").unwrap()
    };
    eprintln!("fit {:?} {:#?}", t.elapsed(), model.rows);
    for d in &model.domains {
        eprintln!("{:?} {:?} n={} {:?}", d.processor, d.phase, d.rows.len(), d.fitted);
    }
    std::fs::write(path, model.to_json().unwrap()).unwrap();
    let t = std::time::Instant::now();
    let r = validate(&model, &store, Some(20), vec![]).unwrap();
    eprintln!("validate {:?}", t.elapsed());
    for w in &r.warnings {
        eprintln!("{w}");
    }
    for g in &r.groups {
        println!(
            "{:12} {} {:8} n={:5} dev={:3} md={:.3} dev={:.3} p90={:.2} bias={:+.3} w10={:.2} cov={:.2} hw={:.2} floor={:?} {}",
            g.group.clone().unwrap_or("all".into()),
            g.rows,
            g.phase.name(),
            g.n,
            g.devices.unwrap(),
            g.mdape,
            g.mdape_by_device.unwrap(),
            g.p90_ape,
            g.bias,
            g.within_10pct,
            g.coverage,
            g.interval_half_width,
            g.noise_floor.map(|x| (x * 1000.0).round() / 1000.0),
            if g.rows == 0 {
                g.baselines
                    .iter()
                    .map(|(k, b)| format!("{k}={:.2}", b.mdape))
                    .collect::<Vec<_>>()
                    .join(" ")
            } else {
                String::new()
            }
        );
    }
    std::fs::write("/tmp/cases.json", serde_json::to_string(&r).unwrap()).unwrap();
}
