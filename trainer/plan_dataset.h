// SPDX-License-Identifier: Apache-2.0
// The part of a plan that looks at the dataset.
#pragma once

#include "trainer/plan.h"

namespace farsight {

// Opens the metadata of every dataset file that exists. A file that does not exist yet is a note; a file that training
// would refuse is a problem. Never throws for what it finds in files.
DatasetFacts dataset_facts(const Config& config);

}  // namespace farsight
