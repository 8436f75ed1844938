// SPDX-License-Identifier: Apache-2.0
// Trains one configuration on in-process ranks, and the data it is trained on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trainer/layout_run.h"

namespace farsight {

// `layout` overrides parallel.* and train.micro_batch, e.g. {"parallel.ring=2"}.
// Each rank computes where `place` says; ranks on a device share it.
enum class RunsOn : uint8_t { cpu, device_staged, device_nccl };
LayoutRun run_in_layout(const std::string& config_text, const std::vector<std::string>& layout, int ranks,
                        const DatasetFiles& files, int64_t steps, RunsOn place = RunsOn::cpu);

// A byte-level corpus of generated sentences with documents, written once per process below the test's temporary
// folder; the path of the HDF5 file.
std::string generated_corpus();
// The named file below FARSIGHT_DATA (default ../shared/data beside the source tree); empty when it is not there.
std::string shared_data(const std::string& name);

}  // namespace farsight
