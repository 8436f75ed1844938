// SPDX-License-Identifier: Apache-2.0
// What a forecast head is trained for, in a form that the loops of the CPU and of the device share (forecast_loss.h).
#pragma once

#include <cstdint>

namespace farsight {

enum class ForecastLossKind : uint8_t { mse, mae, huber, quantile, gaussian, student_t, mixture };
enum class MixtureKind : uint8_t { gaussian, student_t, fixed };

inline constexpr int64_t kMaxQuantileLevels = 128;
inline constexpr int64_t kMaxMixtureComponents = 16;

struct ForecastTerms {
  ForecastLossKind kind = ForecastLossKind::mse;
  int32_t outputs = 1;  // K
  int32_t count = 0;    // of levels or components
  int32_t point = 0;    // of the levels: nearest to 0.5
  double delta = 1.0;   // huber
  double levels[kMaxQuantileLevels] = {};
  MixtureKind components[kMaxMixtureComponents] = {};
  double scales[kMaxMixtureComponents] = {};  // of components of kind fixed
};

}  // namespace farsight
