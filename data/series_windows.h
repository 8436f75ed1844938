// SPDX-License-Identifier: Apache-2.0
// Windows of time series as views of the stored rows: window w of a split covers look-back rows [t0 - L, t0) and target
// rows [t0, t0 + H), every t0 whose targets lie inside the split. Nothing is copied, padded, cut off or repeated.
//
//   std::vector<SeriesDescriptor> files = {probe_series("etth1.h5")};
//   auto data = std::make_shared<SeriesFiles>(files, SeriesAccess{});
//   SeriesWindows windows(data, {.split = "test", .lookback = 336, .horizon = 96, .scale = pooled_scale(files)});
//
// Source: forecasting specification, sections 2.2 and 2.3.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/calendar.h"
#include "data/data_file.h"
#include "data/sample_source.h"
#include "data/series.h"

namespace farsight {

// z = (x - mean) / scale of a channel.
struct ChannelScale {
  double mean = 0.0;
  double scale = 1.0;
  bool operator==(const ChannelScale&) const = default;
};

// By the training statistics of the files: one file's own, of several files pooled by their counts (exactly the
// statistics of all their training rows together). Error{data} when the files differ in channels or frequency.
std::vector<ChannelScale> pooled_scale(const std::vector<SeriesDescriptor>& files);

struct SeriesAccess {
  DataIo io = DataIo::automatic;
  bool trust = false;      // read arrays through libhdf5 although no sidecar vouches for the file
  std::string where = {};  // prefix of messages, e.g. "rank 3 (gpu07): "
};

// The open arrays of all series of some files with equal channels; series are numbered through all files.
// One caller at a time per object.
class SeriesFiles {
 public:
  // Error{data}: channels or frequencies differ, "not the same file" (size or first bytes differ from the descriptor).
  SeriesFiles(std::vector<SeriesDescriptor> files, const SeriesAccess& access);
  ~SeriesFiles();
  SeriesFiles(const SeriesFiles&) = delete;
  SeriesFiles& operator=(const SeriesFiles&) = delete;

  const std::vector<Channel>& channels() const;
  const std::vector<std::string>& static_names() const;
  const Frequency& frequency() const;
  int64_t channel_count() const { return static_cast<int64_t>(channels().size()); }
  int64_t series_count() const;
  const std::string& id(int64_t series) const;
  int64_t rows(int64_t series) const;
  std::span<const float> statics(int64_t series) const;
  bool has_mask() const;  // of any series
  // The target rows of a split, series numbered through all files. Error{data} when a file lacks the split.
  std::vector<SplitRange> split(const std::string& name) const;

  // Rows [begin, begin + count), f32 [count, C], NaN where nothing was observed; valid until the next call for values.
  const float* values(int64_t series, int64_t begin, int64_t count);
  // u8 [count, C]; nullptr where everything was observed. Valid until the next call for a mask.
  const uint8_t* mask(int64_t series, int64_t begin, int64_t count);
  // ns of one row.
  int64_t time(int64_t series, int64_t row);
  // ns of rows [begin, begin + out.size()).
  void times(int64_t series, int64_t begin, std::span<int64_t> out);
  void prefetch(int64_t series, int64_t begin, int64_t count);
  // The same files opened once more, for another thread.
  std::shared_ptr<SeriesFiles> reopen() const;
  // One line per file, "uuid rows content_xxh3": equal text = equal data.
  std::string identity() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct WindowOptions {
  std::string split = "train";
  int64_t lookback = 0;                  // L
  int64_t horizon = 0;                   // H
  int64_t stride = 1;                    // rows between windows
  std::vector<int64_t> targets = {};     // channels to forecast; empty: those of role target
  std::vector<ChannelScale> scale = {};  // [C]; empty: values as they are
  std::vector<CalendarFeature> calendar = {};
};

struct Window {
  int64_t series = 0;
  int64_t first_target = 0;  // t0
};

class SeriesWindows : public SampleSource {
 public:
  // Error{data}: a split without a window, with the rows there are and the rows needed.
  SeriesWindows(std::shared_ptr<SeriesFiles> files, WindowOptions options);

  int64_t samples() const override { return first_.back(); }
  Window window(int64_t sample) const;
  const SeriesFiles& files() const { return *files_; }
  SeriesFiles& files() { return *files_; }
  // The same windows of files opened once more, for another thread.
  SeriesWindows reopened() const { return {files_->reopen(), options_}; }
  const WindowOptions& options() const { return options_; }  // targets and scale filled in
  bool is_target(int64_t channel) const { return is_target_[static_cast<size_t>(channel)]; }

  MicroBatch make_batch(int64_t rows) const override;
  int64_t read(int64_t sample, int64_t j, const MicroBatch& batch) override;
  void pad(int64_t j, const MicroBatch& batch) override;
  void prefetch(int64_t sample) override;

 private:
  struct Piece {
    SplitRange range;
    int64_t first_target = 0;
  };
  void fill_channels(const Window& window, int64_t j, const MicroBatch& batch) const;
  static int64_t count_targets(int64_t j, const MicroBatch& batch);
  void fill_calendar(const Window& window, int64_t j, const MicroBatch& batch);

  std::shared_ptr<SeriesFiles> files_;
  WindowOptions options_;
  std::vector<uint8_t> is_target_, has_future_;
  std::vector<Piece> pieces_;
  std::vector<int64_t> first_ = {0};  // [pieces + 1] number of the first window of each
  std::vector<int64_t> times_;        // [L + H] of the window being read
};

}  // namespace farsight
