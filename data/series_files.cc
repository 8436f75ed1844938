// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "data/array_reader.h"
#include "data/file.h"
#include "data/series_check.h"
#include "data/series_windows.h"
#include "kernels/error.h"

namespace farsight {

namespace {

void check_alike(const SeriesDescriptor& first, const SeriesDescriptor& other) {
  if (first.channels.size() != other.channels.size()) {
    fail(ErrorKind::data, "{}: {} channels, but {} has {}", other.file, other.channels.size(), first.file,
         first.channels.size());
  }
  for (size_t c = 0; c < first.channels.size(); ++c) {
    const Channel &a = first.channels[c], &b = other.channels[c];
    if (a.name == b.name && a.role == b.role) continue;
    fail(ErrorKind::data, "{}: channel {} is '{}' ({}), in {} it is '{}' ({})", other.file, c, b.name,
         to_string(b.role), first.file, a.name, to_string(a.role));
  }
  if (first.frequency != other.frequency) {
    fail(ErrorKind::data, "{}: a row every {}, in {} every {}", other.file, to_string(other.frequency), first.file,
         to_string(first.frequency));
  }
  if (first.static_names != other.static_names) {
    fail(ErrorKind::data, "{}: other static numbers than {}", other.file, first.file);
  }
}

// The arrays of one series.
class OpenSeries {
 public:
  OpenSeries(const File& file, const SeriesEntry& entry, DataIo io)
      : values(file, entry.values, io), time(file, entry.time, io), rows(entry.rows) {
    if (entry.mask) mask.emplace(file, *entry.mask, io);
  }
  RealRows values;
  IntegerArray time;
  std::optional<IntegerArray> mask;
  int64_t rows;
};

class OpenFile {
 public:
  OpenFile(SeriesDescriptor described, const SeriesAccess& access)
      : descriptor(std::move(described)), file_(File::open_read(descriptor.file)) {
    check_series(descriptor);
    if (file_.size() != descriptor.file_bytes) {
      fail(ErrorKind::data, "{}: not the same file here: {} bytes, {} expected (uuid {})", descriptor.file,
           with_commas(file_.size()), with_commas(descriptor.file_bytes), descriptor.uuid);
    }
    for (const SeriesEntry& entry : descriptor.series) {
      check_trust(entry, access.trust);
      check_head(entry.values);
      series.push_back(std::make_unique<OpenSeries>(file_, entry, access.io));
    }
  }

  // A mapped file that has shrunk is SIGBUS when touched.
  void check_unchanged() const {
    if (file_.size() == descriptor.file_bytes) return;
    fail(ErrorKind::data, "{}: truncated or changed while in use: {} bytes, {} expected", descriptor.file,
         with_commas(file_.size()), with_commas(descriptor.file_bytes));
  }

  SeriesDescriptor descriptor;
  std::vector<std::unique_ptr<OpenSeries>> series;

 private:
  void check_trust(const SeriesEntry& entry, bool trust) const {
    const bool library = entry.values.storage == Storage::library || entry.time.storage == Storage::library ||
                         (entry.mask && entry.mask->storage == Storage::library);
    if (!library || trust || descriptor.sidecar) return;
    fail(ErrorKind::data,
         "{}: '{}' can only be read through libhdf5 (compressed, compact or foreign byte order), and no matching "
         "{}.sum vouches for it; write the file again, or trust it explicitly",
         descriptor.file, entry.values.path, descriptor.file);
  }

  void check_head(const ArrayDescriptor& array) const {
    if (array.head.empty() || array.storage == Storage::library) return;
    const int64_t offset = array.storage == Storage::contiguous ? array.offset : array.chunk_offsets.at(0);
    std::string found(array.head.size(), '\0');
    file_.read_at(offset, found.data(), found.size());
    if (found == array.head) return;
    fail(ErrorKind::data, "{}: not the same file here: '{}' begins with other bytes (uuid {})", descriptor.file,
         array.path, descriptor.uuid);
  }

  File file_;
};

}  // namespace

std::vector<ChannelScale> pooled_scale(const std::vector<SeriesDescriptor>& files) {
  if (files.empty()) fail(ErrorKind::internal, "the scale of no file");
  std::vector<ChannelScale> scale;
  for (size_t c = 0; c < files[0].channels.size(); ++c) {
    double count = 0.0, sum = 0.0;
    for (const SeriesDescriptor& file : files) {
      check_alike(files[0], file);
      count += static_cast<double>(file.statistics[c].count);
      sum += static_cast<double>(file.statistics[c].count) * file.statistics[c].mean;
    }
    if (files.size() == 1) {
      scale.push_back({files[0].statistics[c].mean, files[0].statistics[c].scale()});
      continue;
    }
    const double mean = sum / count;
    double squares = 0.0;
    for (const SeriesDescriptor& file : files) {
      const ChannelStatistics& s = file.statistics[c];
      squares += static_cast<double>(s.count) * (s.std * s.std + (s.mean - mean) * (s.mean - mean));
    }
    const double std = std::sqrt(squares / count);
    scale.push_back({mean, std > 0.0 ? std : 1.0});
  }
  return scale;
}

struct SeriesFiles::State {
  std::vector<std::unique_ptr<OpenFile>> files;
  std::vector<int64_t> first_series = {0};  // [files + 1]
  SeriesAccess access;

  const SeriesDescriptor& front() const { return files.front()->descriptor; }

  struct Place {
    OpenFile* file;
    size_t index;
    OpenSeries& series() const { return *file->series[index]; }
    const SeriesEntry& entry() const { return file->descriptor.series[index]; }
  };
  Place place(int64_t series) const {
    const auto next = std::upper_bound(first_series.begin(), first_series.end(), series);
    const auto file = static_cast<size_t>(next - first_series.begin()) - 1;
    if (series < 0 || file >= files.size()) fail(ErrorKind::internal, "series {} of {}", series, first_series.back());
    return {files[file].get(), static_cast<size_t>(series - first_series[file])};
  }
};

SeriesFiles::SeriesFiles(std::vector<SeriesDescriptor> files, const SeriesAccess& access)
    : state_(std::make_unique<State>()) {
  if (files.empty()) fail(ErrorKind::config, "no data file is given");
  state_->access = access;
  try {
    for (SeriesDescriptor& file : files) {
      state_->files.push_back(std::make_unique<OpenFile>(std::move(file), access));
      check_alike(state_->front(), state_->files.back()->descriptor);
      state_->first_series.push_back(state_->first_series.back() +
                                     static_cast<int64_t>(state_->files.back()->series.size()));
    }
  } catch (const Error& error) {
    throw Error(error.kind(), access.where + error.what());
  }
}

SeriesFiles::~SeriesFiles() = default;

const std::vector<Channel>& SeriesFiles::channels() const { return state_->front().channels; }
const std::vector<std::string>& SeriesFiles::static_names() const { return state_->front().static_names; }
const Frequency& SeriesFiles::frequency() const { return state_->front().frequency; }
int64_t SeriesFiles::series_count() const { return state_->first_series.back(); }
const std::string& SeriesFiles::id(int64_t series) const { return state_->place(series).entry().id; }
int64_t SeriesFiles::rows(int64_t series) const { return state_->place(series).entry().rows; }

std::span<const float> SeriesFiles::statics(int64_t series) const {
  const auto place = state_->place(series);
  const size_t count = static_names().size();
  return std::span(place.file->descriptor.statics).subspan(place.index * count, count);
}

bool SeriesFiles::has_mask() const {
  return std::any_of(state_->files.begin(), state_->files.end(), [](const auto& file) {
    return std::any_of(file->descriptor.series.begin(), file->descriptor.series.end(),
                       [](const SeriesEntry& entry) { return entry.mask.has_value(); });
  });
}

std::vector<SplitRange> SeriesFiles::split(const std::string& name) const {
  std::vector<SplitRange> ranges;
  for (size_t f = 0; f < state_->files.size(); ++f) {
    const SeriesDescriptor& descriptor = state_->files[f]->descriptor;
    const auto found = descriptor.splits.find(name);
    if (found == descriptor.splits.end()) {
      std::string names;
      for (const auto& [split, unused] : descriptor.splits) names += (names.empty() ? "" : ", ") + split;
      fail(ErrorKind::data, "{}{}: has no split '{}' (has: {})", state_->access.where, descriptor.file, name, names);
    }
    for (SplitRange range : found->second) {
      range.series += state_->first_series[f];
      ranges.push_back(range);
    }
  }
  return ranges;
}

const float* SeriesFiles::values(int64_t series, int64_t begin, int64_t count) {
  const auto place = state_->place(series);
  place.file->check_unchanged();
  return place.series().values.load(begin, count);
}

const uint8_t* SeriesFiles::mask(int64_t series, int64_t begin, int64_t count) {
  const auto place = state_->place(series);
  if (!place.series().mask) return nullptr;
  place.file->check_unchanged();
  const int64_t columns = channel_count();
  return reinterpret_cast<const uint8_t*>(place.series().mask->load(begin * columns, count * columns));
}

int64_t SeriesFiles::time(int64_t series, int64_t row) {
  int64_t time = 0;
  times(series, row, {&time, 1});
  return time;
}

void SeriesFiles::times(int64_t series, int64_t begin, std::span<int64_t> out) {
  const auto place = state_->place(series);
  place.file->check_unchanged();
  place.series().time.read(begin, out);
}

void SeriesFiles::prefetch(int64_t series, int64_t begin, int64_t count) {
  state_->place(series).series().values.will_need(begin, count);
}

std::shared_ptr<SeriesFiles> SeriesFiles::reopen() const {
  std::vector<SeriesDescriptor> descriptors;
  for (const auto& file : state_->files) descriptors.push_back(file->descriptor);
  return std::make_shared<SeriesFiles>(std::move(descriptors), state_->access);
}

std::string SeriesFiles::identity() const {
  std::string text;
  for (const auto& file : state_->files) {
    int64_t rows = 0;
    uint64_t hash = 0;
    for (const SeriesEntry& entry : file->descriptor.series) {
      rows += entry.rows;
      hash = hash * 31 + entry.values.content_xxh3.value_or(0);
    }
    text += fmt::format("{} {} {:016x}\n", file->descriptor.uuid, rows, hash);
  }
  return text;
}

}  // namespace farsight
