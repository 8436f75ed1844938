// SPDX-License-Identifier: Apache-2.0
// PatchTST: every channel by itself, its window cut into patches that are the tokens of a small post-norm transformer,
// a head from all tokens to the horizon. With N tokens of width D:
//   tokens = dropout(patches W + b + position)
//   x = norm(x + dropout(attention(x)))      scores of the layer before are added to the raw scores
//   x = norm(x + dropout(W2 dropout(gelu(W1 x))))
//   raw = head([x_1 .. x_N])                 [R, N D] -> [R, H K]
// norm: batch norm over samples, channels and tokens (of all data ranks: sync_batch), or layer norm.
// Parameters: embedding.weight [D, P], .bias, position.weight [N, D];
//   layers.I.attention.{q,k,v,out}.{weight,bias}, .attention.norm.{weight,bias}[, .running_mean, .running_var],
//   layers.I.mlp.{up,down}.{weight,bias}, .mlp.norm...;  head.weight [H K, N D], .bias
// Source: Nie et al. 2023 (arXiv:2211.14730); residual attention: He et al. 2021 (arXiv:2012.11747); forecasting
// specification, section 4.3.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "trainer/forecast/forecaster.h"

namespace farsight {

enum class PatchNorm : uint8_t { layer, batch };

struct PatchTstSpec {
  int64_t patch = 16, stride = 8;
  int64_t layers = 3, width = 16, heads = 4, mlp_width = 128;
  PatchNorm norm = PatchNorm::batch;
  bool residual_attention = true;
  float norm_eps = 1e-5F;
};

class PatchTst : public Forecaster {
 public:
  PatchTst(ForecastSpec forecast, const PatchTstSpec& spec, const ModelSharding& sharding = {});

  int64_t tokens() const { return tokens_; }  // N of a channel

 protected:
  Var body(Tape& tape, const Var& x, const Body& context) override;

 private:
  struct Norm {
    Parameter *weight, *bias, *mean, *var;
  };
  struct Layer {
    std::vector<Parameter*> qkv, qkv_bias;
    LinearParameters out, up, down;
    Norm attention_norm, mlp_norm;
  };
  struct Pass;
  Norm add_norm(const std::string& prefix);
  void add_layer(int64_t index);
  Var normed(Tape& tape, const Var& branch, const Var& residual, const Norm& norm, const Pass& pass, size_t layer,
             Site site) const;
  Var layer(Tape& tape, size_t index, const Var& x, Var& scores, const Pass& pass) const;

  PatchTstSpec patch_;
  int64_t tokens_;
  LinearParameters embedding_, head_;
  Parameter* position_ = nullptr;
  std::vector<Layer> layers_;
};

}  // namespace farsight
