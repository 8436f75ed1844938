// SPDX-License-Identifier: Apache-2.0
#include "trainer/dataset.h"

#include <algorithm>
#include <array>
#include <map>

#include "data/sidecar.h"
#include "kernels/error.h"

namespace farsight {
namespace {

const DataFileInfo& info(const DataDescriptor& file) {
  return std::visit([](const auto& descriptor) -> const DataFileInfo& { return descriptor; }, file);
}

bool has_split(const DataDescriptor& file, const std::string& split) {
  if (const auto* corpus = std::get_if<CorpusDescriptor>(&file)) return corpus->find(split) != nullptr;
  return std::get<SeriesDescriptor>(file).splits.contains(split);
}

std::vector<DataDescriptor> probe_all(const std::vector<std::string>& paths, bool full) {
  std::vector<DataDescriptor> out;
  for (const auto& path : paths) {
    out.push_back(probe_data(path));
    if (full) verify_sidecar(path, info(out.back()).uuid);
  }
  return out;
}

// Each file as the number of its kind in the variant, the size of its bytes, its bytes.
void append(std::string& bytes, const std::vector<DataDescriptor>& files) {
  const auto put = [&](int64_t n) { bytes.append(reinterpret_cast<const char*>(&n), sizeof(n)); };
  put(static_cast<int64_t>(files.size()));
  for (const auto& file : files) {
    const std::string text = std::visit([](const auto& descriptor) { return descriptor.to_bytes(); }, file);
    put(static_cast<int64_t>(file.index()));
    put(static_cast<int64_t>(text.size()));
    bytes += text;
  }
}

std::vector<DataDescriptor> take(std::string_view& bytes) {
  const auto get = [&] {
    int64_t n = 0;
    std::copy_n(bytes.data(), sizeof(n), reinterpret_cast<char*>(&n));
    bytes.remove_prefix(sizeof(n));
    return n;
  };
  std::vector<DataDescriptor> out;
  for (int64_t left = get(); left > 0; --left) {
    const int64_t kind = get();
    const auto size = static_cast<size_t>(get());
    const std::string_view text = bytes.substr(0, size);
    if (kind == 0) {
      out.emplace_back(CorpusDescriptor::from_bytes(text));
    } else {
      out.emplace_back(SeriesDescriptor::from_bytes(text));
    }
    bytes.remove_prefix(size);
  }
  return out;
}

}  // namespace

const std::vector<DataDescriptor>& DatasetFiles::of(const std::string& split) const {
  if (split == "valid" && !valid.empty()) return valid;
  if (split == "test" && !test.empty()) return test;
  return train;
}

bool DatasetFiles::has(const std::string& split) const {
  const auto& files = of(split);
  return std::all_of(files.begin(), files.end(), [&](const auto& file) { return has_split(file, split); });
}

std::vector<CorpusDescriptor> corpora(const std::vector<DataDescriptor>& files) {
  std::vector<CorpusDescriptor> out;
  for (const auto& file : files) {
    const auto* corpus = std::get_if<CorpusDescriptor>(&file);
    if (corpus == nullptr) {
      fail(ErrorKind::data, "{}: kind is 'series', 'tokens' is needed; to forecast, set task.kind = \"forecast\"",
           info(file).file);
    }
    out.push_back(*corpus);
  }
  return out;
}

std::vector<SeriesDescriptor> series_files(const std::vector<DataDescriptor>& files) {
  std::vector<SeriesDescriptor> out;
  for (const auto& file : files) {
    const auto* series = std::get_if<SeriesDescriptor>(&file);
    if (series == nullptr) {
      fail(ErrorKind::data, "{}: kind is 'tokens', 'series' is needed; prepare time series with 'farsight data csv'",
           info(file).file);
    }
    out.push_back(*series);
  }
  return out;
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
  return std::make_shared<Corpus>(corpora(files.of(split)), options);
}

std::vector<PositionRange> reader_ranges(const SequenceLayout& layout, int64_t owner) {
  std::vector<PositionRange> out;
  for (const auto& range : layout.ranges(owner)) out.push_back({range.begin, range.end});
  return out;
}

}  // namespace farsight
