// SPDX-License-Identifier: Apache-2.0
#include "trainer/verify_gradients.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>

#include "kernels/error.h"
#include "kernels/random.h"

namespace farsight {
namespace {

constexpr double kFloor = 1e-4;       // of the longest gradient
constexpr double kLossChange = 1e-2;  // of the first step
constexpr double kMove = 0.2;         // of the norm of the tensor, at most
constexpr double kTypical = 0.1;      // size of a weight where all are zero (biases)
constexpr double kGoal = 1e-4;        // error at which a measurement is good enough

double length(std::span<const float> values) {
  double sum = 0.0;
  for (const float v : values) sum += static_cast<double>(v) * static_cast<double>(v);
  return std::sqrt(sum);
}

double dot(std::span<const float> a, const std::vector<double>& b) {
  double sum = 0.0;
  for (size_t i = 0; i < b.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

std::vector<double> direction(const std::string& tensor, std::span<const float> gradient, int64_t number) {
  const uint64_t scales = init_key(static_cast<uint64_t>(number), "verify, scale, " + tensor);
  const uint64_t noise = init_key(static_cast<uint64_t>(number), "verify, noise, " + tensor);
  const double typical = length(gradient) / std::sqrt(static_cast<double>(gradient.size()));
  std::vector<double> u(gradient.size());
  double squares = 0.0;
  for (size_t i = 0; i < u.size(); ++i) {
    u[i] = static_cast<double>(gradient[i]) * 2.0 * uniform_variate(scales, i);
    u[i] += (typical > 0.0 ? typical : 1.0) * normal_variate(noise, i);
    squares += u[i] * u[i];
  }
  for (double& x : u) x /= std::sqrt(squares);
  return u;
}

constexpr int64_t kNudges = 4;

// Every weight one bit up or down, at random; back as they were at the end.
class NudgedWeights {
 public:
  NudgedWeights(ParameterStore& store, int64_t number) : store_(store) {
    const auto weights = store.values().span<float>();
    kept_.assign(weights.begin(), weights.end());
    const uint64_t key = init_key(static_cast<uint64_t>(number), "verify, nudge");
    for (size_t i = 0; i < weights.size(); ++i) {
      weights[i] = std::nextafter(kept_[i], uniform_variate(key, i) < 0.5 ? 1e30F : -1e30F);
    }
  }
  ~NudgedWeights() { std::copy(kept_.begin(), kept_.end(), store_.values().span<float>().begin()); }
  NudgedWeights(const NudgedWeights&) = delete;
  NudgedWeights& operator=(const NudgedWeights&) = delete;

  // Change of the loss that the nudges mean.
  double along(const NamedTensors& gradients) const {
    double sum = 0.0;
    for (const Parameter& p : store_.parameters()) {
      if (p.average > 0.0) continue;  // the loss does not depend on it
      const auto& gradient = gradients.at(p.name);
      const auto values = p.value.span<float>();
      for (size_t i = 0; i < values.size(); ++i) {
        const float before = kept_[static_cast<size_t>(p.offset) + i];
        sum += (static_cast<double>(values[i]) - static_cast<double>(before)) * static_cast<double>(gradient[i]);
      }
    }
    return sum;
  }

 private:
  ParameterStore& store_;
  std::vector<float> kept_;
};

class GradientCheck {
 public:
  GradientCheck(LayoutTrainer& trainer, const NamedTensors& gradients) : trainer_(trainer), gradients_(gradients) {
    loss_ = trainer.objective();
    if (!std::isfinite(loss_)) fail(ErrorKind::diverged, "the loss of the first step is {}", loss_);
    double longest = 0.0;
    for (const Parameter& p : trainer.model().parameters().parameters()) {
      const double norm = length(gradients_.at(p.name));
      if (!std::isfinite(norm)) fail(ErrorKind::diverged, "the gradient of {} is not finite", p.name);
      if (p.average == 0.0) longest = std::max(longest, norm);
    }
    floor_ = kFloor * longest;
    rounding_ = measure_rounding();
  }

  double loss() const { return loss_; }
  double rounding() const { return rounding_; }

  // Kinks of a loss (absolute values) can make entries of Ridders' table agree on a wrong number: a second measurement
  // with a short first step, which passes few of them, must agree that a gradient is wrong.
  GradientRow check(Parameter& p, int64_t number) {
    constexpr double kShort = 1.0 / 32.0;
    const GradientRow row = measure(p, number, /*part=*/1.0);
    if (row.verdict() != Verdict::wrong) return row;
    const GradientRow again = measure(p, number, kShort);
    return again.verdict() == Verdict::ok ? again : row;
  }

 private:
  // part: of the usual first step.
  GradientRow measure(Parameter& p, int64_t number, double part) {
    const auto& gradient = gradients_.at(p.name);
    const auto weights = p.value.span<float>();
    const std::vector<float> kept(weights.begin(), weights.end());
    const auto u = direction(p.name, gradient, number);
    GradientRow row{p.name, 0.0, dot(gradient, u), 0.0, 0.0};
    const double most = kMove * std::max(length(kept), kTypical * std::sqrt(static_cast<double>(kept.size())));
    const double step = std::min(most, kLossChange * std::abs(loss_) / std::max(std::abs(row.expected), 1e-300));
    const double scale = std::max({std::abs(row.expected), floor_, std::numeric_limits<double>::min()});
    const auto along = [&](double t) {
      for (size_t i = 0; i < u.size(); ++i) weights[i] = static_cast<float>(static_cast<double>(kept[i]) + t * u[i]);
      return trainer_.objective();
    };
    const Derivative found = derivative(along, part * step, rounding_, kGoal * scale);
    std::copy(kept.begin(), kept.end(), weights.begin());
    row.measured = found.value;
    row.difference = std::abs(found.value - row.expected) / scale;
    row.error = found.error / scale;
    return row;
  }

  // Weights that differ in their last bit give another rounding of almost the same loss; the gradient says how much of
  // the difference is none.
  double measure_rounding() {
    double squares = 0.0;
    for (int64_t n = 0; n < kNudges; ++n) {
      const NudgedWeights nudged(trainer_.model().parameters(), n);
      const double difference = trainer_.objective() - loss_ - nudged.along(gradients_);
      squares += difference * difference;
    }
    return std::max(std::sqrt(squares / static_cast<double>(kNudges)), 1e-12 * std::abs(loss_));
  }

  LayoutTrainer& trainer_;
  const NamedTensors& gradients_;
  double loss_ = 0.0, floor_ = 0.0, rounding_ = 0.0;
};

}  // namespace

Verdict GradientRow::verdict() const {
  constexpr double kUsable = 0.03;
  if (!(difference <= kGradientTolerance + 3.0 * error)) return Verdict::wrong;
  return error <= kUsable ? Verdict::ok : Verdict::unclear;
}

Derivative derivative(const std::function<double(double)>& f, double step, double rounding, double goal) {
  constexpr size_t kLevels = 6;
  std::array<std::array<double, kLevels>, kLevels> table{};
  Derivative best{0.0, std::numeric_limits<double>::infinity()};
  for (size_t i = 0; i < kLevels; ++i, step /= 2.0) {
    table[i][0] = (f(step) - f(-step)) / (2.0 * step);
    if (i == 0) best.value = table[0][0];
    double power = 1.0;
    for (size_t j = 1; j <= i; ++j) {
      power *= 4.0;
      table[i][j] = (power * table[i][j - 1] - table[i - 1][j - 1]) / (power - 1.0);
      const double apart =
          std::max(std::abs(table[i][j] - table[i][j - 1]), std::abs(table[i][j] - table[i - 1][j - 1]));
      const double error = apart + rounding / step;
      if (!(error >= best.error)) best = {table[i][j], error};
    }
    const bool rounding_rules = rounding / step > best.error;
    if (i > 0 && (best.error <= goal || rounding_rules || !std::isfinite(table[i][0]))) break;
  }
  return best;
}

std::map<std::string, double> gradient_rounding(LayoutTrainer& trainer, const NamedTensors& gradients) {
  std::map<std::string, double> most;
  for (int64_t n = 0; n < kNudges; ++n) {
    const NudgedWeights nudged(trainer.model().parameters(), n);
    trainer.accumulate();
    for (const Parameter& p : trainer.model().parameters().parameters()) {
      const auto& before = gradients.at(p.name);
      const auto after = p.grad.span<float>();
      double& largest = most[p.name];
      for (size_t i = 0; i < after.size(); ++i) {
        largest = std::max(largest, std::abs(static_cast<double>(after[i]) - static_cast<double>(before[i])));
      }
    }
  }
  return most;
}

GradientReport check_gradients(LayoutTrainer& trainer, const NamedTensors& gradients, int64_t directions,
                               const Progress& progress) {
  GradientCheck check(trainer, gradients);
  GradientReport report{check.loss(), check.rounding() / std::abs(check.loss()), {}};
  auto& parameters = trainer.model().parameters().parameters();
  for (Parameter& p : parameters) {
    if (p.average > 0.0) continue;  // what backward leaves there is no derivative
    progress(fmt::format("gradient check: {} of {}, {}", report.rows.size() + 1, parameters.size(), p.name));
    GradientRow worst;
    for (int64_t d = 0; d < directions; ++d) {
      const GradientRow row = check.check(p, d);
      const bool worse =
          row.verdict() == worst.verdict() ? row.difference > worst.difference : row.verdict() > worst.verdict();
      if (d == 0 || worse) worst = row;
    }
    report.rows.push_back(worst);
  }
  return report;
}

}  // namespace farsight
