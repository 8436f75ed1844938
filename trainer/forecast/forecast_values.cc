// SPDX-License-Identifier: Apache-2.0
#include "trainer/forecast/forecast_values.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>

#include "kernels/error.h"

namespace farsight {
namespace {

constexpr double kLeastWidth = 1e-6;

double softplus(double x) { return x > 30.0 ? x : std::log1p(std::exp(x)); }

// One part of a distribution, z units; nu = 0: Gaussian.
struct Component {
  double weight = 1.0, location = 0.0, width = 1.0, nu = 0.0;

  double standard_quantile(double level) const {
    if (nu == 0.0) return boost::math::quantile(boost::math::normal_distribution<>(), level);
    return boost::math::quantile(boost::math::students_t_distribution<>(nu), level);
  }
  double cdf(double x) const {
    const double z = (x - location) / width;
    if (nu == 0.0) return 0.5 * std::erfc(-z / std::sqrt(2.0));
    return boost::math::cdf(boost::math::students_t_distribution<>(nu), z);
  }
};

// Reads raw outputs one after the other.
class RawHead {
 public:
  RawHead(std::span<const float> raw, const HeadScale& scale) : raw_(raw), scale_(scale) {}
  double location() { return (next() - scale_.beta) / scale_.gamma * scale_.std + scale_.mean; }
  double width() { return fixed_width(softplus(next()) + kLeastWidth); }
  double fixed_width(double s) const { return s / std::abs(scale_.gamma) * scale_.std; }
  double freedom() { return 2.0 + softplus(next()); }
  double next() { return static_cast<double>(raw_[at_++]); }

 private:
  std::span<const float> raw_;
  const HeadScale& scale_;
  size_t at_ = 0;
};

std::vector<Component> components_of(const ForecastLossOptions& loss, std::span<const float> raw,
                                     const HeadScale& scale) {
  RawHead head(raw, scale);
  if (loss.kind == ForecastLossKind::gaussian || loss.kind == ForecastLossKind::student_t) {
    Component c;
    c.location = head.location();
    c.width = head.width();
    if (loss.kind == ForecastLossKind::student_t) c.nu = head.freedom();
    return {c};
  }
  std::vector<Component> all;
  double largest = -std::numeric_limits<double>::infinity(), total = 0.0;
  for (const MixtureComponent& part : loss.components) {
    Component c;
    c.weight = head.next();
    c.location = head.location();
    c.width = part.kind == MixtureKind::fixed ? head.fixed_width(part.scale) : head.width();
    if (part.kind == MixtureKind::student_t) c.nu = head.freedom();
    largest = std::max(largest, c.weight);
    all.push_back(c);
  }
  for (Component& c : all) total += c.weight = std::exp(c.weight - largest);
  for (Component& c : all) c.weight /= total;
  return all;
}

// The point where a mixture has collected `level`: bisection between the extreme quantiles of its parts.
double mixture_quantile(const std::vector<Component>& parts, double level) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const Component& c : parts) {
    const double q = c.location + c.width * c.standard_quantile(level);
    low = std::min(low, q);
    high = std::max(high, q);
  }
  for (int i = 0; i < 200 && high - low > 1e-12 * (1.0 + std::abs(low)); ++i) {
    const double middle = 0.5 * (low + high);
    double mass = 0.0;
    for (const Component& c : parts) mass += c.weight * c.cdf(middle);
    (mass < level ? low : high) = middle;
  }
  return 0.5 * (low + high);
}

// The quantile at `uniform`, linear between the levels there are.
double between(std::span<const double> values, const std::vector<double>& levels, double uniform) {
  const auto above = std::upper_bound(levels.begin(), levels.end(), uniform);
  if (above == levels.begin()) return values.front();
  if (above == levels.end()) return values.back();
  const auto at = static_cast<size_t>(above - levels.begin());
  const double part = (uniform - levels[at - 1]) / (levels[at] - levels[at - 1]);
  return values[at - 1] + part * (values[at] - values[at - 1]);
}

bool is_point(ForecastLossKind kind) {
  return kind == ForecastLossKind::mse || kind == ForecastLossKind::mae || kind == ForecastLossKind::huber;
}

}  // namespace

std::vector<double> usual_levels() { return {0.025, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.975}; }

std::vector<double> forecast_levels(const ForecastLossOptions& loss) {
  if (loss.kind == ForecastLossKind::quantile) return loss.levels;
  return is_point(loss.kind) ? std::vector<double>() : usual_levels();
}

HeadReader::HeadReader(ForecastLossOptions loss, std::vector<double> levels)
    : loss_(std::move(loss)), levels_(std::move(levels)), outputs_(forecast_outputs(loss_)) {
  for (size_t q = 1; q < levels_.size(); ++q) {
    if (std::abs(levels_[q] - 0.5) < std::abs(levels_[middle_] - 0.5)) middle_ = q;
  }
  if (loss_.kind == ForecastLossKind::quantile && levels_ != loss_.levels) {
    fail(ErrorKind::internal, "a quantile head has levels of its own");
  }
}

double HeadReader::read(std::span<const float> raw, const HeadScale& scale, std::span<double> quantiles) {
  if (is_point(loss_.kind)) return RawHead(raw, scale).location();
  if (loss_.kind == ForecastLossKind::quantile) {
    RawHead head(raw, scale);
    for (double& q : quantiles) q = head.location();
    for (size_t q = 1; q < quantiles.size(); ++q) crossings_ += quantiles[q] < quantiles[q - 1] ? 1 : 0;
    std::sort(quantiles.begin(), quantiles.end());
    return quantiles[middle_];
  }
  const std::vector<Component> parts = components_of(loss_, raw, scale);
  double point = 0.0;
  for (const Component& c : parts) point += c.weight * c.location;
  for (size_t q = 0; q < quantiles.size(); ++q) {
    quantiles[q] = parts.size() > 1 ? mixture_quantile(parts, levels_[q])
                                    : parts[0].location + parts[0].width * parts[0].standard_quantile(levels_[q]);
  }
  return point;
}

double HeadReader::draw(std::span<const float> raw, const HeadScale& scale, double uniform) const {
  constexpr double kTail = 0.001;
  RawHead head(raw, scale);
  if (is_point(loss_.kind)) return head.location();
  if (loss_.kind == ForecastLossKind::quantile) {
    std::vector<double> quantiles;
    for (size_t q = 0; q < loss_.levels.size(); ++q) quantiles.push_back(head.location());
    std::sort(quantiles.begin(), quantiles.end());
    return between(quantiles, loss_.levels, uniform);
  }
  const std::vector<Component> parts = components_of(loss_, raw, scale);
  // The part in which the number falls, then where in it: one quantile of one part, not of the mixture.
  size_t at = 0;
  while (at + 1 < parts.size() && uniform >= parts[at].weight) uniform -= parts[at++].weight;
  const Component& c = parts[at];
  const double level = std::clamp(uniform / c.weight, kTail, 1.0 - kTail);
  return c.location + c.width * c.standard_quantile(level);
}

}  // namespace farsight
