// SPDX-License-Identifier: Apache-2.0
// The loss of one target and its derivatives, in fp64, for the CPU and for the device, which sets FARSIGHT_TERM to what
// its functions begin with before it includes this.
#pragma once

#include <cmath>

#include "kernels/forecast_terms.h"

#ifndef FARSIGHT_TERM
#define FARSIGHT_TERM inline
#endif

namespace farsight::forecast {

// log(1 + e^x) and its slope, from one exponential.
struct Softplus {
  double value, slope;
};
FARSIGHT_TERM Softplus softplus(double x) {
  const double e = exp(-fabs(x));
  return {(x > 0.0 ? x : 0.0) + log(1.0 + e), (x < 0.0 ? e : 1.0) / (1.0 + e)};
}

// log gamma(a) - log gamma(a + 1/2) and its derivative, a > 0. Stirling's series of both, subtracted term by term: from
// a = 8 on six terms leave an error below 3e-14; smaller a are shifted there by gamma(a + 1) = a gamma(a).
// Source: Abramowitz & Stegun 1964, 6.1.15, 6.1.40, 6.3.18.
// The value is log(square) / 2 - series, so that a caller can take its logarithm together with others.
struct GammaRatio {
  double square, series, slope;
};
FARSIGHT_TERM GammaRatio log_gamma_ratio(double a) {
  // gamma(a + n + 1/2) / gamma(a + n) divided by that of a, and the sum of -1/2 / (a (a + 1/2)), as fractions.
  double up = 1.0, down = 1.0, numerator = 0.0, denominator = 1.0;
  for (; a < 8.0; a += 1.0) {
    const double product = a * (a + 0.5);
    up *= a + 0.5;
    down *= a;
    numerator = numerator * product - 0.5 * denominator;
    denominator *= product;
  }
  const double x = 1.0 / a, s = x * x;
  constexpr double kC1 = -1.0 / 8.0, kC3 = 1.0 / 192.0, kC5 = -1.0 / 640.0, kC7 = 17.0 / 14336.0, kC9 = -31.0 / 18432.0,
                   kC11 = 691.0 / 180224.0;
  const double series = x * (kC1 + s * (kC3 + s * (kC5 + s * (kC7 + s * (kC9 + s * kC11)))));
  const double derivative =
      s * (kC1 + s * (3.0 * kC3 + s * (5.0 * kC5 + s * (7.0 * kC7 + s * (9.0 * kC9 + s * 11.0 * kC11)))));
  const double ratio = up / down;
  return {ratio * ratio * x, series, numerator / denominator - 0.5 * x + derivative};
}

// How the outputs of a row become numbers in the units of the targets: location (raw - beta) slope + mean, widths times
// |slope|, where slope = std / gamma.
struct Undo {
  double mean, slope, beta;
};

// -log density at a distance u = y - location, and its derivatives with respect to location, width and degrees of
// freedom.
struct Density {
  double value, location, width, freedom;
};
FARSIGHT_TERM Density normal_density(double u, double width) {
  const double inverse = 1.0 / width, z = u * inverse;
  return {0.91893853320467274178 + log(width) + 0.5 * z * z, -z * inverse, (1.0 - z * z) * inverse, 0.0};
}
FARSIGHT_TERM Density student_density(double u, double width, double nu) {
  const double inverse = 1.0 / width, z = u * inverse, share = 1.0 / nu, tail = 1.0 + z * z * share;
  const GammaRatio ratio = log_gamma_ratio(0.5 * nu);
  const double log_tail = log(tail), pull = (nu + 1.0) * z * share / tail;
  const double scale = 0.5 * log(3.14159265358979323846 * nu * ratio.square * width * width) - ratio.series;
  return {scale + 0.5 * (nu + 1.0) * log_tail, -pull * inverse, (1.0 - pull * z) * inverse,
          0.5 * (ratio.slope + share + log_tail - pull * z * share)};
}

// What a row adds up: losses and errors of the point forecast, and derivatives with respect to locations (weighted with
// their raw values, too) and logarithms of widths, which the gradients of gamma and beta are made of.
struct RowSums {
  double loss = 0.0, square = 0.0, absolute = 0.0;
  double location = 0.0, raw_location = 0.0, log_width = 0.0;
};

// The derivative with respect to location output k, whose raw value is given.
template <class Write>
FARSIGHT_TERM void write_location(const Undo& undo, int k, double raw, double derivative, RowSums& sums,
                                  const Write& write) {
  write(k, derivative * undo.slope);
  sums.location += derivative;
  sums.raw_location += derivative * raw;
}

FARSIGHT_TERM void add_point(double loss, double error, RowSums& sums) {
  sums.loss += loss;
  sums.square += error * error;
  sums.absolute += fabs(error);
}

// One location: loss and derivative with respect to u = y - location.
template <ForecastLossKind kKind>
FARSIGHT_TERM double location_loss(double delta, double u, double& derivative) {
  const double size = fabs(u), sign = u > 0.0 ? 1.0 : (u < 0.0 ? -1.0 : 0.0);
  if (kKind == ForecastLossKind::mse) {
    derivative = 2.0 * u;
    return u * u;
  }
  if (kKind == ForecastLossKind::mae) {
    derivative = sign;
    return size;
  }
  derivative = size <= delta ? u : delta * sign;
  return size <= delta ? 0.5 * u * u : delta * (size - 0.5 * delta);
}

template <class Read, class Write>
FARSIGHT_TERM void quantile_element(const ForecastTerms& terms, const Undo& undo, double y, const Read& read,
                                    const Write& write, RowSums& sums) {
  const double share = 1.0 / terms.count;
  double loss = 0.0, error = 0.0;
  for (int k = 0; k < terms.count; ++k) {
    const double raw = read(k), u = y - (raw - undo.beta) * undo.slope;
    const double weight = u >= 0.0 ? terms.levels[k] : terms.levels[k] - 1.0;
    loss += share * weight * u;
    if (k == terms.point) error = u;
    write_location(undo, k, raw, -share * weight, sums, write);
  }
  add_point(loss, error, sums);
}

// A component of a distribution head, from its outputs `first`, first + 1, ...: location, width, freedom.
struct Component {
  Density density;
  double raw, u, width;  // raw location, distance, width
  Softplus spread, freedom;
};
template <class Read>
FARSIGHT_TERM Component component_of(MixtureKind kind, double fixed, const Undo& undo, double y, int first,
                                     const Read& read) {
  Component c{};
  c.raw = read(first);
  c.u = y - (c.raw - undo.beta) * undo.slope;
  c.spread = kind == MixtureKind::fixed ? Softplus{fixed, 0.0} : softplus(read(first + 1));
  if (kind != MixtureKind::fixed) c.spread.value += 1e-6;
  c.width = c.spread.value * fabs(undo.slope);
  if (kind == MixtureKind::student_t) c.freedom = softplus(read(first + 2));
  c.density = kind == MixtureKind::student_t ? student_density(c.u, c.width, 2.0 + c.freedom.value)
                                             : normal_density(c.u, c.width);
  return c;
}

// The derivatives of `weight` times the component's -log density.
template <class Write>
FARSIGHT_TERM void write_component(MixtureKind kind, const Component& c, double weight, const Undo& undo, int first,
                                   RowSums& sums, const Write& write) {
  write_location(undo, first, c.raw, weight * c.density.location, sums, write);
  sums.log_width += weight * c.density.width * c.width;
  if (kind == MixtureKind::fixed) return;
  write(first + 1, weight * c.density.width * fabs(undo.slope) * c.spread.slope);
  if (kind == MixtureKind::student_t) write(first + 2, weight * c.density.freedom * c.freedom.slope);
}

FARSIGHT_TERM int outputs_of(MixtureKind kind) {  // with the weight
  return kind == MixtureKind::fixed ? 2 : (kind == MixtureKind::gaussian ? 3 : 4);
}

// log sum exp, term by term.
struct LogSum {
  double largest = -INFINITY, sum = 0.0;
};
FARSIGHT_TERM void add_exponent(LogSum& s, double x) {
  if (x <= s.largest) {
    s.sum += exp(x - s.largest);
  } else {
    s.sum = s.sum * exp(s.largest - x) + 1.0;
    s.largest = x;
  }
}
FARSIGHT_TERM double value_of(const LogSum& s) { return s.largest + log(s.sum); }

// -log sum_k w_k p_k, w = softmax of the weights.
template <class Read, class Write>
FARSIGHT_TERM void mixture_element(const ForecastTerms& terms, const Undo& undo, double y, bool gradient,
                                   const Read& read, const Write& write, RowSums& sums) {
  Component components[kMaxMixtureComponents];
  LogSum weights, joint;
  for (int k = 0, at = 0; k < terms.count; at += outputs_of(terms.components[k++])) add_exponent(weights, read(at));
  const double all = value_of(weights);
  double error = 0.0;
  for (int k = 0, at = 0; k < terms.count; at += outputs_of(terms.components[k++])) {
    components[k] = component_of(terms.components[k], terms.scales[k], undo, y, at + 1, read);
    const double log_weight = read(at) - all;
    add_exponent(joint, log_weight - components[k].density.value);
    error += exp(log_weight) * components[k].u;
  }
  const double log_density = value_of(joint);
  add_point(-log_density, error, sums);
  if (!gradient) return;
  for (int k = 0, at = 0; k < terms.count; at += outputs_of(terms.components[k++])) {
    const double log_weight = read(at) - all;
    const double share = exp(log_weight - components[k].density.value - log_density);
    write(at, exp(log_weight) - share);
    write_component(terms.components[k], components[k], share, undo, at + 1, sums, write);
  }
}

// One target: read(k) is output k, write(k, d) takes the derivative with respect to it.
template <ForecastLossKind kKind, class Read, class Write>
FARSIGHT_TERM void element_of(const ForecastTerms& terms, const Undo& undo, double target, bool gradient,
                              const Read& read, const Write& write, RowSums& sums) {
  const double y = target - undo.mean;
  if constexpr (kKind == ForecastLossKind::quantile) {
    quantile_element(terms, undo, y, read, write, sums);
  } else if constexpr (kKind == ForecastLossKind::mixture) {
    mixture_element(terms, undo, y, gradient, read, write, sums);
  } else if constexpr (kKind == ForecastLossKind::gaussian || kKind == ForecastLossKind::student_t) {
    constexpr auto kComponent = kKind == ForecastLossKind::gaussian ? MixtureKind::gaussian : MixtureKind::student_t;
    const Component c = component_of(kComponent, 0.0, undo, y, 0, read);
    add_point(c.density.value, c.u, sums);
    write_component(kComponent, c, 1.0, undo, 0, sums, write);
  } else {
    const double raw = read(0), u = y - (raw - undo.beta) * undo.slope;
    double derivative = 0.0;
    add_point(location_loss<kKind>(terms.delta, u, derivative), u, sums);
    write_location(undo, 0, raw, -derivative, sums, write);
  }
}

template <ForecastLossKind kKind>
struct KindOf {
  static constexpr ForecastLossKind value = kKind;
};

// body(KindOf<kind>()), so that loops in it have the kind as a constant.
template <class Body>
FARSIGHT_TERM void with_kind(ForecastLossKind kind, const Body& body) {
  switch (kind) {
    case ForecastLossKind::mse:
      return body(KindOf<ForecastLossKind::mse>());
    case ForecastLossKind::mae:
      return body(KindOf<ForecastLossKind::mae>());
    case ForecastLossKind::huber:
      return body(KindOf<ForecastLossKind::huber>());
    case ForecastLossKind::quantile:
      return body(KindOf<ForecastLossKind::quantile>());
    case ForecastLossKind::gaussian:
      return body(KindOf<ForecastLossKind::gaussian>());
    case ForecastLossKind::student_t:
      return body(KindOf<ForecastLossKind::student_t>());
    case ForecastLossKind::mixture:
      return body(KindOf<ForecastLossKind::mixture>());
  }
}

}  // namespace farsight::forecast
