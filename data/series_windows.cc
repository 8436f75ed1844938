// SPDX-License-Identifier: Apache-2.0
#include "data/series_windows.h"

#include <algorithm>
#include <cstring>

#include "kernels/error.h"

namespace farsight {

namespace {

// Row j of a tensor [b, ...] of host memory; nullptr where the tensor is not defined.
template <typename T>
T* row_of(const Tensor& tensor, int64_t j) {
  return tensor.defined() ? tensor.data<T>() + j * (tensor.numel() / tensor.dim(0)) : nullptr;
}

template <typename T>
void clear_row(const Tensor& tensor, int64_t j) {
  if (T* row = row_of<T>(tensor, j)) std::fill_n(row, tensor.numel() / tensor.dim(0), T{});
}

void check_lengths(const WindowOptions& options) {
  if (options.lookback < 1) fail(ErrorKind::config, "data.lookback = {}; at least 1", options.lookback);
  if (options.horizon < 1) fail(ErrorKind::config, "data.horizon = {}; at least 1", options.horizon);
  if (options.stride < 1) fail(ErrorKind::config, "data.stride = {}; at least 1", options.stride);
}

// From [rows, C] to one channel's row, scaled; where a mask is given, what was not observed becomes 0.
void copy_channel(const float* values, const uint8_t* mask, int64_t channels, int64_t rows, const ChannelScale& scale,
                  float* out, uint8_t* observed) {
  const double inverse = 1.0 / scale.scale;
  for (int64_t t = 0; t < rows; ++t) {
    const bool seen = mask == nullptr || mask[t * channels] != 0;
    const auto value = static_cast<double>(values[t * channels]);
    out[t] = seen ? static_cast<float>((value - scale.mean) * inverse) : 0.0F;
    if (observed != nullptr) observed[t] = seen ? 1 : 0;
  }
}

}  // namespace

SeriesWindows::SeriesWindows(std::shared_ptr<SeriesFiles> files, WindowOptions options)
    : files_(std::move(files)), options_(std::move(options)) {
  check_lengths(options_);
  const int64_t channels = files_->channel_count();
  is_target_.assign(static_cast<size_t>(channels), 0);
  is_known_ = is_target_;
  for (int64_t c = 0; c < channels; ++c) {
    const ChannelRole role = files_->channels()[static_cast<size_t>(c)].role;
    is_known_[static_cast<size_t>(c)] = role == ChannelRole::known_future ? 1 : 0;
    if (options_.targets.empty() && role == ChannelRole::target) is_target_[static_cast<size_t>(c)] = 1;
  }
  for (const int64_t c : options_.targets) is_target_.at(static_cast<size_t>(c)) = 1;
  options_.targets.clear();
  for (int64_t c = 0; c < channels; ++c) {
    if (is_target(c)) options_.targets.push_back(c);
  }
  if (options_.targets.empty()) fail(ErrorKind::config, "no channel is a target");
  if (options_.scale.empty()) options_.scale.resize(static_cast<size_t>(channels));
  int64_t rows = 0;
  for (const SplitRange& range : files_->split(options_.split)) {
    const int64_t begin = std::max(range.begin, options_.lookback);
    const int64_t count = std::max<int64_t>(0, range.end - begin - options_.horizon + 1);
    rows = std::max(rows, std::min(range.end, range.end - range.begin + options_.lookback));
    if (count == 0) continue;
    pieces_.push_back({range, begin});
    first_.push_back(first_.back() + (count + options_.stride - 1) / options_.stride);
  }
  if (samples() == 0) {
    fail(
        ErrorKind::data,
        "split '{}' holds no window: {} rows with their look-back, {} are needed (data.lookback {} + data.horizon {}); "
        "shorten one of them, or give the split more rows",
        options_.split, rows, options_.lookback + options_.horizon, options_.lookback, options_.horizon);
  }
}

Window SeriesWindows::window(int64_t sample) const {
  if (sample < 0 || sample >= samples()) fail(ErrorKind::internal, "window {} of {}", sample, samples());
  const auto next = std::upper_bound(first_.begin(), first_.end(), sample);
  const auto piece = static_cast<size_t>(next - first_.begin()) - 1;
  return {pieces_[piece].range.series, pieces_[piece].first_target + (sample - first_[piece]) * options_.stride};
}

MicroBatch SeriesWindows::make_batch(int64_t rows) const {
  const auto make = [rows](int64_t a, int64_t b, DType type) {
    return Tensor::zeros({rows, a, b}, type, MemoryTag::data, Device::cpu);
  };
  const int64_t channels = files_->channel_count();
  MicroBatch batch;
  WindowTensors& w = batch.windows;
  w.past = make(channels, options_.lookback, DType::f32);
  w.future = make(channels, options_.horizon, DType::f32);
  if (files_->has_mask()) w.past_observed = make(channels, options_.lookback, DType::u8);
  // Padding rows have no target: without marks they could not be told from others.
  w.future_observed = make(channels, options_.horizon, DType::u8);
  if (!options_.calendar.empty()) {
    w.calendar = make(static_cast<int64_t>(options_.calendar.size()), options_.lookback + options_.horizon, DType::f32);
  }
  if (const auto statics = static_cast<int64_t>(files_->static_names().size()); statics > 0) {
    w.statics = Tensor::zeros({rows, statics}, DType::f32, MemoryTag::data, Device::cpu);
  }
  return batch;
}

void SeriesWindows::fill_channels(const Window& window, int64_t j, const MicroBatch& batch) const {
  const WindowTensors& w = batch.windows;
  const int64_t channels = files_->channel_count(), lookback = options_.lookback, horizon = options_.horizon;
  const int64_t begin = window.first_target - lookback;
  const float* values = files_->values(window.series, begin, lookback + horizon);
  const uint8_t* mask = files_->mask(window.series, begin, lookback + horizon);
  auto* past = row_of<float>(w.past, j);
  auto* future = row_of<float>(w.future, j);
  auto* past_observed = row_of<uint8_t>(w.past_observed, j);
  auto* future_observed = row_of<uint8_t>(w.future_observed, j);
  for (int64_t c = 0; c < channels; ++c) {
    const ChannelScale& scale = options_.scale[static_cast<size_t>(c)];
    const uint8_t* marks = mask == nullptr ? nullptr : mask + c;
    copy_channel(values + c, marks, channels, lookback, scale, past + c * lookback,
                 past_observed == nullptr ? nullptr : past_observed + c * lookback);
    if (is_target(c) || is_known_[static_cast<size_t>(c)] != 0) {
      copy_channel(values + lookback * channels + c, marks == nullptr ? nullptr : marks + lookback * channels, channels,
                   horizon, scale, future + c * horizon, future_observed + c * horizon);
    } else {  // a past covariate: nobody knows its future
      std::fill_n(future + c * horizon, horizon, 0.0F);
    }
    if (!is_target(c)) std::fill_n(future_observed + c * horizon, horizon, uint8_t{0});
  }
}

int64_t SeriesWindows::count_targets(int64_t j, const MicroBatch& batch) {
  const Tensor& observed = batch.windows.future_observed;
  const auto* marks = row_of<uint8_t>(observed, j);
  return std::count(marks, marks + observed.numel() / observed.dim(0), uint8_t{1});
}

void SeriesWindows::fill_calendar(const Window& window, int64_t j, const MicroBatch& batch) const {
  auto* out = row_of<float>(batch.windows.calendar, j);
  if (out == nullptr) return;
  const int64_t rows = options_.lookback + options_.horizon;
  for (int64_t t = 0; t < rows; ++t) {
    const int64_t time = files_->time(window.series, window.first_target - options_.lookback + t);
    for (size_t f = 0; f < options_.calendar.size(); ++f) {
      out[static_cast<int64_t>(f) * rows + t] = calendar_value(options_.calendar[f], time);
    }
  }
}

int64_t SeriesWindows::read(int64_t sample, int64_t j, const MicroBatch& batch) {
  const Window at = window(sample);
  try {
    fill_channels(at, j, batch);
    fill_calendar(at, j, batch);
    if (auto* statics = row_of<float>(batch.windows.statics, j)) {
      std::ranges::copy(files_->statics(at.series), statics);
    }
    return count_targets(j, batch);
  } catch (const Error& error) {
    fail(error.kind(), "{} (window {})", error.what(), sample);
  }
}

void SeriesWindows::pad(int64_t j, const MicroBatch& batch) {
  const WindowTensors& w = batch.windows;
  clear_row<float>(w.past, j);
  clear_row<uint8_t>(w.past_observed, j);
  clear_row<float>(w.future, j);
  clear_row<uint8_t>(w.future_observed, j);
  clear_row<float>(w.calendar, j);
  clear_row<float>(w.statics, j);
}

void SeriesWindows::prefetch(int64_t sample) {
  const Window at = window(sample);
  files_->prefetch(at.series, at.first_target - options_.lookback, options_.lookback + options_.horizon);
}

}  // namespace farsight
