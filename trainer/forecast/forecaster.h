// SPDX-License-Identifier: Apache-2.0
// What forecasters share: windows in, normalised one by one, a head of raw outputs per channel and step out, and the
// loss on it. Models differ in body().
//   rows     R = samples x target channels, channel fastest; L rows of look-back, H steps, K outputs a step
//   x [R, L] -> instance norm -> body -> head [R, H * K] -> de-normalised and scored (kernels/forecast_loss.h)
// Source: forecasting specification, sections 4.1 and 5.3.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/forecast_loss.h"
#include "kernels/instance_norm.h"
#include "trainer/trainable.h"

namespace farsight {

struct ForecastSpec {
  int64_t lookback = 0, horizon = 0;
  int64_t channels = 0;          // of the data
  std::vector<int64_t> targets;  // of them, rising
  bool instance_norm = true;
  bool instance_affine = false;
  InstanceNormKind norm_kind = InstanceNormKind::moments;
  double dropout = 0.0;
  ForecastLossOptions loss;  // without scale

  int64_t target_count() const { return static_cast<int64_t>(targets.size()); }
  int64_t outputs() const { return forecast_outputs(loss); }  // K
};

// Raw outputs of one micro-batch, where the model computes.
struct ForecastHead {
  Var raw;           // [R, H * K]
  Tensor mean, std;  // [R] of the windows; not defined() without instance norm
};

class Forecaster : public Trainable {
 public:
  const ForecastSpec& forecast_spec() const { return spec_; }
  Parameter* gamma() const { return gamma_; }
  Parameter* beta() const { return beta_; }

  // Forward pass without loss. Collective where body() is.
  ForecastHead forward(Tape& tape, Mesh& mesh, const MicroBatch& batch, const ModelPass& pass);

  // Forward pass and loss; of the sums [3] f64 of forecast_loss as many are added to `totals` as it
  // has elements.
  Var score(Tape& tape, Mesh& mesh, const MicroBatch& batch, const ModelPass& pass, const Tensor& totals);
  Var micro_batch_loss(Tape& tape, Mesh& mesh, const SequenceLayout& layout, const MicroBatch& batch,
                       const ModelPass& pass, const ModelSums& sums) override;
  int64_t entropy_rows(const SequenceLayout& /*layout*/) const override { return 0; }

 protected:
  Forecaster(ForecastSpec spec, const ModelSharding& sharding);

  struct Body {
    Mesh& mesh;
    const MicroBatch& batch;
    const ModelPass& pass;
  };
  // x [R, L], normalised, of the type that the model computes in; result [R, H * K].
  virtual Var body(Tape& tape, const Var& x, const Body& context) = 0;

  // Registers the affine part of the instance norm; models call it first, in the first unit.
  void add_instance_parameters();
  Parameter* add(const std::string& name, const Shape& shape, Init init, bool adjoin = false);
  // Weight [out, in] and bias [out] with uniform values below 1 / sqrt(in).
  struct LinearParameters {
    Parameter *weight, *bias;
  };
  LinearParameters add_linear(const std::string& name, int64_t out, int64_t in);
  const ForecastSpec& spec() const { return spec_; }

 private:
  ForecastLossResult run(Tape& tape, Mesh& mesh, const MicroBatch& batch, const ModelPass& pass);

  ForecastSpec spec_;
  ModelSharding sharding_;
  Parameter* gamma_ = nullptr;
  Parameter* beta_ = nullptr;
};

// Rows of the target channels of a host tensor [b, C, n] as [b * targets, n]: a view where all channels are targets.
Tensor target_rows(const Tensor& channels, const std::vector<int64_t>& targets);

}  // namespace farsight
