// SPDX-License-Identifier: Apache-2.0
// What an open file of kind "series" says it holds: see describe_series.
#pragma once

#include "data/file_metadata.h"
#include "data/series.h"

namespace farsight {

// Untrusted until check_series has seen it; without heads and sidecar.
SeriesDescriptor parse_series(const OpenDataFile& opened);

}  // namespace farsight
