//! Hints that survive what the objects survive, and whose loss harms nothing.

use super::*;
use crate::chunk::Sketch;
use crate::container::reader;

/// The chunks of these objects, and their sketches.
fn chunks(objects: &BTreeMap<Name, (Kind, Vec<u8>)>) -> (Vec<Name>, Vec<Sketch>) {
    let chunks = objects.iter().filter(|(_, (kind, _))| *kind == Kind::Chunk);
    chunks.map(|(name, (_, content))| (*name, Sketch::of(content))).unzip()
}

fn data_containers(disk: &SimDisk) -> Vec<String> {
    disk.paths().into_iter().filter(|path| path.ends_with(".data")).collect()
}

#[test]
fn sketches_are_there_while_written_after_sealing_and_after_a_power_cut() {
    let disk = SimDisk::new(21);
    let (pool, _) = open(&disk);
    let objects = fill(&pool, 1, 40);
    let (names, sketches) = chunks(&objects);
    assert!(sketches.iter().filter(|sketch| !sketch.is_none()).count() > 200);
    assert_eq!(pool.sketches(&names).unwrap(), sketches, "some in open containers");
    assert_eq!(pool.sketches(&[Name([9; 32])]).unwrap(), [Sketch::NONE], "not here");
    pool.sync().unwrap();
    drop(pool);
    disk.power_cut();
    // Containers that were not sealed are, with sketches computed anew; the index is rebuilt, too.
    let (pool, report) = open(&disk);
    assert!(report.sealed > 0, "{report:?}");
    assert_eq!(pool.sketches(&names).unwrap(), sketches);
    pool.close().unwrap();
    drop(pool);
    disk.lose(INDEX_FILE).unwrap();
    let (pool, report) = open(&disk);
    assert!(report.index_rebuilt.is_some());
    assert_eq!(pool.sketches(&names).unwrap(), sketches);
    assert!(pool.check(true, |_| true).unwrap().is_sound());
}

#[test]
fn containers_without_sketches_are_read_as_ever() {
    let disk = SimDisk::new(22);
    let (pool, _) = open(&disk);
    let objects = fill(&pool, 2, 40);
    pool.close().unwrap();
    drop(pool);
    for path in data_containers(&disk) {
        let file = disk.open(&path).unwrap();
        let id = reader::read_header(file.as_ref(), &path).unwrap().id;
        let directory = reader::read_directory(file.as_ref(), &path, id).unwrap();
        // As older versions sealed them.
        reader::seal_at(file.as_ref(), &path, id, &directory.slots, &[], directory.footer.slots_end()).unwrap();
        file.sync().unwrap();
    }
    let (pool, _) = open(&disk);
    assert_all(&pool, &objects);
    let (names, _) = chunks(&objects);
    assert!(pool.sketches(&names).unwrap().iter().all(Sketch::is_none));
    disk.lose(INDEX_FILE).unwrap();
    drop(pool);
    assert_all(&open(&disk).0, &objects);
}

#[test]
fn harmed_sketches_are_told_by_a_check_and_harm_nothing_else() {
    let disk = SimDisk::new(23);
    let (pool, _) = open(&disk);
    let objects = fill(&pool, 3, 40);
    pool.close().unwrap();
    drop(pool);
    let path = data_containers(&disk).remove(0);
    let file = disk.open(&path).unwrap();
    let id = reader::read_header(file.as_ref(), &path).unwrap().id;
    let footer = reader::read_directory(file.as_ref(), &path, id).unwrap().footer;
    assert_eq!(footer.sketch_bytes, 16 * footer.slots);
    disk.rot(&path, footer.slots_end() + 5, 4).unwrap();
    let (pool, report) = open(&disk);
    assert_eq!(report.damage, []);
    assert_all(&pool, &objects);
    let (names, sketches) = chunks(&objects);
    let found = pool.sketches(&names).unwrap();
    let differ = found.iter().zip(&sketches).filter(|(found, sketch)| found != sketch).count();
    assert!(differ > 0 && differ <= footer.slots as usize);
    assert!(found.iter().zip(&sketches).all(|(found, sketch)| found.is_none() || found == sketch));
    let damage = pool.check(false, |_| true).unwrap().damage;
    assert!(damage.len() == 1 && damage[0].file == path, "{damage:?}");
}
