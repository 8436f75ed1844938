// SPDX-License-Identifier: Apache-2.0
// Trains one configuration on in-process ranks and returns everything that must not depend on the layout.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "trainer/config.h"
#include "trainer/dataset.h"

namespace farsight {

struct ParityRun {
  std::map<std::string, std::vector<float>> initial;    // weights before step 1, by name
  std::map<std::string, std::vector<float>> gradients;  // of step 1, after the reduction
  std::map<std::string, std::vector<float>> weights;    // after the last step
  std::vector<double> losses;                           // of every step
  std::vector<double> norms;
  std::vector<std::vector<int64_t>> samples;  // sample numbers of every step, all data ranks, sorted
};

// `layout` overrides parallel.* and train.micro_batch, e.g. {"parallel.ring=2"}.
ParityRun run_layout(const std::string& config_text, const std::vector<std::string>& layout, int ranks,
                     const DatasetFiles& files, int64_t steps);

// A byte-level corpus of generated sentences with documents, written once per process below the test's temporary
// folder; the path of the HDF5 file.
std::string generated_corpus();
// The named file below FARSIGHT_DATA (default ../shared/data beside the source tree); empty when it is not there.
std::string shared_data(const std::string& name);

// max |a - b| / max(max |b|, floor) over one tensor.
double relative_difference(const std::vector<float>& a, const std::vector<float>& b, double floor);

struct Agreement {
  bool same_initial = true;
  double first_loss = 0.0;      // relative
  double worst_gradient = 0.0;  // against max(max |g|, 1e-4 x the largest entry of the model), per tensor
  std::string worst_tensor;
  double last_loss = 0.0;  // relative, worst of all steps
};
Agreement compare(const ParityRun& run, const ParityRun& reference);

}  // namespace farsight
