//! MapReduce under faults, some seeds of each scenario.

use kontiki_sim::farm::SCENARIOS;
use kontiki_sim::seeds::each_seed;

#[test]
fn mapreduce() {
    for scenario in SCENARIOS {
        each_seed(scenario.name, 40, |seed| {
            (scenario.run)(seed)
                .unwrap_or_else(|violation| panic!("{}: {violation}", scenario.name));
        });
    }
}
