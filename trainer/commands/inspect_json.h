// SPDX-License-Identifier: Apache-2.0
// `farsight data inspect --json`: one object per file.
#pragma once

#include <string>

#include "data/corpus.h"
#include "trainer/commands/inspect_baselines.h"
#include "trainer/commands/inspect_series.h"

namespace farsight {

std::string corpus_json(const CorpusDescriptor& corpus);
// baselines: nullptr = not asked for.
std::string series_json(const SeriesFacts& facts, const BaselineTable* baselines);

}  // namespace farsight
