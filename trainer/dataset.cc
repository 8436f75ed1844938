// SPDX-License-Identifier: Apache-2.0
#include "trainer/dataset.h"

#include <algorithm>
#include <array>
#include <map>

#include "data/sidecar.h"
#include "kernels/error.h"

namespace farsight {
namespace {

std::vector<CorpusDescriptor> probe_all(const std::vector<std::string>& paths, bool full) {
  std::vector<CorpusDescriptor> out;
  for (const auto& path : paths) {
    out.push_back(probe_corpus(path));
    if (full) verify_sidecar(path, out.back().uuid);
  }
  return out;
}

void append(std::string& bytes, const std::vector<CorpusDescriptor>& files) {
  const auto put = [&](int64_t n) { bytes.append(reinterpret_cast<const char*>(&n), sizeof(n)); };
  put(static_cast<int64_t>(files.size()));
  for (const auto& file : files) {
    const std::string text = file.to_bytes();
    put(static_cast<int64_t>(text.size()));
    bytes += text;
  }
}

std::vector<CorpusDescriptor> take(std::string_view& bytes) {
  const auto get = [&] {
    int64_t n = 0;
    std::copy_n(bytes.data(), sizeof(n), reinterpret_cast<char*>(&n));
    bytes.remove_prefix(sizeof(n));
    return n;
  };
  std::vector<CorpusDescriptor> out;
  for (int64_t left = get(); left > 0; --left) {
    const auto size = static_cast<size_t>(get());
    out.push_back(CorpusDescriptor::from_bytes(bytes.substr(0, size)));
    bytes.remove_prefix(size);
  }
  return out;
}

}  // namespace

const std::vector<CorpusDescriptor>& DatasetFiles::of(const std::string& split) const {
  if (split == "valid" && !valid.empty()) return valid;
  if (split == "test" && !test.empty()) return test;
  return train;
}

bool DatasetFiles::has(const std::string& split) const {
  const auto& files = of(split);
  return std::all_of(files.begin(), files.end(), [&](const auto& file) { return file.find(split) != nullptr; });
}

DatasetFiles probe_dataset(const DataConfig& config) {
  if (config.train.empty()) {
    fail(ErrorKind::config,
         "error: data.train names no file; prepare one with 'farsight data text FILE... -o corpus.h5'");
  }
  return {probe_all(config.train, config.verify_full), probe_all(config.valid, config.verify_full),
          probe_all(config.test, config.verify_full)};
}

DatasetFiles broadcast_dataset(const DatasetFiles& files, Communicator& world) {
  std::string bytes;
  if (world.rank() == 0) {
    for (const auto* list : {&files.train, &files.valid, &files.test}) append(bytes, *list);
  }
  std::array<int64_t, 1> size{static_cast<int64_t>(bytes.size())};
  world.broadcast(std::as_writable_bytes(std::span(size)), 0);
  bytes.resize(static_cast<size_t>(size[0]));
  world.broadcast(std::as_writable_bytes(std::span(bytes)), 0);
  std::string_view rest = bytes;
  DatasetFiles out;
  for (auto* list : {&out.train, &out.valid, &out.test}) *list = take(rest);
  return out;
}

std::shared_ptr<Corpus> open_split(const DatasetFiles& files, const DataConfig& config, const std::string& split,
                                   bool evaluation, const std::string& where) {
  CorpusOptions options;
  options.split = split;
  options.sequence = config.sequence;
  options.pack = config.pack == PackChoice::documents ? Pack::documents : Pack::concat;
  options.evaluation = evaluation;
  if (config.io == IoChoice::map) options.io = DataIo::map;
  if (config.io == IoChoice::pread) options.io = DataIo::pread;
  options.where = where;
  return std::make_shared<Corpus>(files.of(split), options);
}

std::vector<PositionRange> reader_ranges(const SequenceLayout& layout, int64_t owner) {
  std::vector<PositionRange> out;
  for (const auto& range : layout.ranges(owner)) out.push_back({range.begin, range.end});
  return out;
}

}  // namespace farsight
