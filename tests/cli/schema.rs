//! The committed JSON Schemas are those of the types.

use std::path::Path;

use crate::util::Sandbox;

#[test]
fn the_committed_schemas_are_current() {
    let sandbox = Sandbox::new();
    sandbox.good(&["schema", "--out", "schema", "--quiet"]);
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
    let names = |folder: &Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&committed), names(&sandbox.path("schema")));
    for name in names(&committed) {
        let read = |folder: &Path| std::fs::read_to_string(folder.join(&name)).unwrap();
        assert!(
            read(&committed) == read(&sandbox.path("schema")),
            "{name:?} differs: run `foretoken schema --out docs/schema`, and note it under Schema \
             in CHANGELOG.md"
        );
    }
}
