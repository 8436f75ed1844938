// SPDX-License-Identifier: Apache-2.0
#include "trainer/forecast/history.h"

#include <algorithm>

namespace farsight {

History::History(SeriesWindows& windows, int64_t reach)
    : windows_(windows), reach_(std::max(reach, windows.options().lookback)) {
  const auto targets = windows.options().targets.size(), horizon = static_cast<size_t>(windows.options().horizon);
  past_.resize(targets * static_cast<size_t>(reach_));
  truth_.values.resize(targets * horizon);
  truth_.observed.resize(targets * horizon);
}

void History::load(int64_t sample) {
  const WindowOptions& options = windows_.options();
  SeriesFiles& files = windows_.files();
  const Window at = windows_.window(sample);
  length_ = std::min(reach_, at.first_target);
  const int64_t rows = length_ + options.horizon, channels = files.channel_count();
  const float* values = files.values(at.series, at.first_target - length_, rows);
  const uint8_t* mask = files.mask(at.series, at.first_target - length_, rows);
  for (size_t i = 0; i < options.targets.size(); ++i) {
    const int64_t c = options.targets[i];
    const ChannelScale& scale = options.scale[static_cast<size_t>(c)];
    const auto z = [&](int64_t t) {
      return (static_cast<double>(values[t * channels + c]) - scale.mean) / scale.scale;
    };
    const auto seen = [&](int64_t t) { return mask == nullptr || mask[t * channels + c] != 0; };
    double last = 0.0;
    double* past = past_.data() + static_cast<int64_t>(i) * reach_;
    for (int64_t t = 0; t < length_; ++t) past[t] = last = seen(t) ? z(t) : last;
    for (int64_t h = 0; h < options.horizon; ++h) {
      const size_t cell = i * static_cast<size_t>(options.horizon) + static_cast<size_t>(h);
      const bool observed = seen(length_ + h);
      truth_.observed[cell] = observed ? 1 : 0;
      truth_.values[cell] = observed ? z(length_ + h) : 0.0;
    }
  }
}

std::span<const double> History::past(int64_t c) const {
  return {past_.data() + c * reach_, static_cast<size_t>(length_)};
}

}  // namespace farsight
