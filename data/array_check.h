// SPDX-License-Identifier: Apache-2.0
// Limits of what a data file may claim, checked before any allocation and again by whoever receives a descriptor.
#pragma once

#include "data/data_file.h"

namespace farsight {

inline constexpr int64_t kMaxExtent = int64_t{1} << 48;
inline constexpr int64_t kMaxChunkBytes = int64_t{64} << 20;
inline constexpr int64_t kMaxStringBytes = int64_t{16} << 20;
inline constexpr int64_t kMaxObjects = 100'000;
inline constexpr int kMaxDepth = 8;
inline constexpr int64_t kMaxExpansion = 1024;  // filtered data may be this many times the file
inline constexpr size_t kHeadBytes = 64;

// Throws Error{data} unless the array lies inside the file and all its numbers are within the limits.
void check_array(const DataFileInfo& info, const ArrayDescriptor& array);

}  // namespace farsight
