// SPDX-License-Identifier: Apache-2.0
// Names inside <run>/checkpoints, and what a committed checkpoint directory must hold.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/shard_file.h"
#include "trainer/file_system.h"

namespace farsight {

inline constexpr const char* kManifestName = "MANIFEST";
inline constexpr const char* kLatestName = "LATEST";
inline constexpr const char* kHealthyName = "HEALTHY";
inline constexpr const char* kBestName = "BEST";

std::string step_name(int64_t step);                       // step-00001200
std::optional<int64_t> parse_step(std::string_view name);  // empty for any other name
std::string file_name(const std::string& path);            // last component

// The checkpoint with the best loss on the validation split, which retention keeps. mark_best: rank 0, Error{io}.
void mark_best(FileSystem& files, const std::string& directory, int64_t step);
std::optional<int64_t> best_step(FileSystem& files, const std::string& directory);

// Error{data} when it is missing or damaged.
Manifest read_manifest(FileSystem& files, const std::string& checkpoint);
// The shard `number` of the manifest, checked against it. Error{data}, Error{io}.
std::unique_ptr<ShardReader> open_shard(FileSystem& files, const std::string& checkpoint, const Manifest& manifest,
                                        int64_t number);

// Newer checkpoints than `step` become .rewound-*, newest first, and LATEST says `step`. Error{io}.
void set_aside_newer(FileSystem& files, const std::string& directory, int64_t step);

}  // namespace farsight
