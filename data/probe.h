// SPDX-License-Identifier: Apache-2.0
// What a data file holds, whatever its kind: for tools that take any of them. See probe_corpus (corpus.h) for what is
// checked, and when to call it.
#pragma once

#include <string>
#include <variant>

#include "data/corpus.h"
#include "data/series.h"

namespace farsight {

using DataDescriptor = std::variant<CorpusDescriptor, SeriesDescriptor>;

DataDescriptor probe_data(const std::string& path, const ProbeLimits& limits = {});
DataDescriptor describe_data(const std::string& path);

}  // namespace farsight
