// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoint/checkpoint_directory.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include <fmt/format.h>

#include "kernels/error.h"
#include "trainer/checkpoint/load.h"
#include "trainer/checkpoint/writer.h"

namespace farsight {
namespace {

constexpr std::string_view kStepPrefix = "step-";
constexpr size_t kStepDigits = 8;
constexpr int64_t kMaxManifest = 1LL << 30;

std::string unused_name(FileSystem& files, const std::string& stem) {
  std::string name = stem;
  for (int i = 2; exists(files, name); ++i) name = fmt::format("{}-{}", stem, i);
  return name;
}

}  // namespace

std::string step_name(int64_t step) { return fmt::format("step-{:08}", step); }

std::optional<int64_t> parse_step(std::string_view name) {
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  const std::string_view digits = name.substr(kStepPrefix.size());
  int64_t step = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  const bool whole = error == std::errc() && end == digits.data() + digits.size() && step >= 0;
  if (!whole || digits.size() < kStepDigits || name != step_name(step)) return std::nullopt;
  return step;
}

std::string file_name(const std::string& path) {
  const size_t end = path.find_last_not_of('/');
  if (end == std::string::npos) return {};
  const size_t slash = path.find_last_of('/', end);
  const size_t begin = slash == std::string::npos ? 0 : slash + 1;
  return path.substr(begin, end + 1 - begin);
}

std::vector<Candidate> list_checkpoints(FileSystem& files, const std::string& directory) {
  std::vector<Candidate> found;
  if (!exists(files, directory)) return found;
  for (const std::string& name : list_sorted(files, directory)) {
    if (const auto step = parse_step(name)) found.push_back({*step, directory + "/" + name});
  }
  std::sort(found.begin(), found.end(), [](const Candidate& a, const Candidate& b) { return a.step > b.step; });
  return found;
}

void mark_best(FileSystem& files, const std::string& directory, int64_t step) {
  replace_file(files, directory + "/" + kBestName, step_name(step) + "\n");
}

std::optional<int64_t> best_step(FileSystem& files, const std::string& directory) {
  const std::string path = directory + "/" + kBestName;
  if (!exists(files, path)) return std::nullopt;
  constexpr int64_t kMostBytes = 256;
  std::string text = read_text(files, path, kMostBytes);
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return parse_step(text);
}

Manifest read_manifest(FileSystem& files, const std::string& checkpoint) {
  const std::string path = checkpoint + "/" + kManifestName;
  if (!exists(files, path)) {
    fail(ErrorKind::data, "{}: no MANIFEST, so this is not a committed checkpoint; give a directory step-N",
         checkpoint);
  }
  Manifest manifest = decode_manifest(read_text(files, path, kMaxManifest), checkpoint);
  const auto step = parse_step(file_name(checkpoint));
  if (step && *step != manifest.state.step) {
    fail(ErrorKind::data, "{}: MANIFEST belongs to step {}", checkpoint, manifest.state.step);
  }
  return manifest;
}

std::unique_ptr<ShardReader> open_shard(FileSystem& files, const std::string& checkpoint, const Manifest& manifest,
                                        int64_t number) {
  const ShardFile& expected = manifest.files[static_cast<size_t>(number)];
  const std::string path = checkpoint + "/" + expected.name;
  FileStatus found;
  if (files.status(path, found) < 0) fail(ErrorKind::data, "shard {}: {} is missing", number, expected.name);
  if (found.bytes != expected.bytes) {
    fail(ErrorKind::data, "shard {}: {} has {} bytes, expected {}", number, expected.name, found.bytes, expected.bytes);
  }
  auto reader = std::make_unique<ShardReader>(files, path, number);
  reader->check_identity(expected, manifest.state.step);
  return reader;
}

void set_aside_newer(FileSystem& files, const std::string& directory, int64_t step) {
  const std::vector<Candidate> all = list_checkpoints(files, directory);
  if (all.empty() || all.front().step <= step) return;
  for (const Candidate& candidate : all) {
    if (candidate.step <= step) break;
    const std::string aside = unused_name(files, directory + "/.rewound-" + step_name(candidate.step));
    check_io(files.rename(candidate.path, aside), "cannot set aside", candidate.path);
  }
  check_io(files.sync_directory(directory), "cannot sync directory", directory);
  replace_file(files, directory + "/" + kLatestName, step_name(step) + "\n");
}

void mark_healthy(FileSystem& files, const std::string& directory, int64_t step) {
  const std::string checkpoint = directory + "/" + step_name(step);
  const std::string path = checkpoint + "/" + kHealthyName;
  if (exists(files, path)) return;
  OutputFile file(files, path);
  file.close();
  check_io(files.sync_directory(checkpoint), "cannot sync directory", checkpoint);
}

}  // namespace farsight
