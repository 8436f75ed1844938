// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/device_timer.h"

#include <algorithm>
#include <vector>

#include <fmt/core.h>

#include "kernels/random.h"
#include "kernels/rows.h"

namespace farsight::testing {
namespace {

constexpr int64_t kDraws = int64_t{1} << 20;

class Event {
 public:
  explicit Event(CudaDevice& device) : device_(device) {
    device_.check("event", device_.backend().event_create(&event_));
  }
  ~Event() { device_.backend().event_destroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record() const { device_.check("event", device_.backend().event_record(event_, device_.stream())); }
  double seconds_until(const Event& later) const {
    float milliseconds = 0.0F;
    device_.check("event", device_.backend().event_elapsed(event_, later.event_, &milliseconds));
    return 1e-3 * static_cast<double>(milliseconds);
  }

 private:
  CudaDevice& device_;
  CudaEvent event_ = nullptr;
};

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out + '"';
}

}  // namespace

int64_t sets_beyond_caches(const DeviceBenchOptions& options, int64_t bytes) {
  return options.tiny ? 2 : std::clamp<int64_t>(kBeyondCaches / std::max<int64_t>(1, bytes), 1, 63) + 1;
}

double device_seconds(CudaDevice& device, const DeviceBenchOptions& options, const std::function<void(int64_t)>& run) {
  for (int64_t i = 0; i < options.warm_up; ++i) run(i);
  std::vector<std::unique_ptr<Event>> marks;
  for (int i = 0; i <= options.repeats; ++i) marks.push_back(std::make_unique<Event>(device));
  marks[0]->record();
  for (int64_t i = 0; i < options.repeats; ++i) {
    run(i);
    marks[static_cast<size_t>(i) + 1]->record();
  }
  device.synchronize();
  std::vector<double> seconds;
  for (size_t i = 1; i < marks.size(); ++i) seconds.push_back(marks[i - 1]->seconds_until(*marks[i]));
  std::sort(seconds.begin(), seconds.end());
  return std::max(seconds[seconds.size() / 2], 1e-9);
}

// The host draws a block of numbers; the device repeats it, so that large inputs do not wait for the host.
Tensor random_tensor(const Shape& shape, DType type, uint64_t seed, float scale) {
  const int64_t count = count_of(shape), drawn = std::min(count, kDraws);
  const Tensor host = Tensor::empty({drawn}, DType::f32, MemoryTag::other, Device::cpu);
  for (int64_t i = 0; i < drawn; ++i) {
    host.data<float>()[i] = scale * static_cast<float>(normal_variate(seed, static_cast<uint64_t>(i)));
  }
  const Tensor block = host.to(Device::cuda), all = Tensor::empty({count}, type);
  for (int64_t at = 0; at < count; at += drawn) {
    const int64_t part = std::min(drawn, count - at);
    copy_rows(block.narrow(0, part), all.narrow(at, part));
  }
  return all.view(shape);
}

void report(const DeviceBenchOptions& options, const DeviceFigure& f) {
  const double ratio = f.reference_value > 0.0 ? f.value / f.reference_value : 0.0;
  const std::string note = options.tiny && f.value > 0.0 ? "tiny shapes: times mean nothing" : f.note;
  if (options.json) {
    fmt::print(
        "{{\"section\":\"kernels\",\"what\":{},\"value\":{:.6g},\"unit\":{},\"reference\":{},\"reference_value\":{:.6g}"
        ","
        "\"ratio\":{:.4g},\"note\":{}}}\n",
        quoted(f.what), f.value, quoted(f.unit), quoted(f.reference), f.reference_value, ratio, quoted(note));
  } else {
    fmt::print("{:44} {:10.1f} {:8}", f.what, f.value, f.unit);
    if (f.reference_value > 0.0) fmt::print(" {:5.2f} of {} ({:.1f})", ratio, f.reference, f.reference_value);
    fmt::print("{}{}\n", note.empty() ? "" : "  ", note);
  }
  std::fflush(stdout);
}

}  // namespace farsight::testing
