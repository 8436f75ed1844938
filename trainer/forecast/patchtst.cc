// SPDX-License-Identifier: Apache-2.0
#include "trainer/forecast/patchtst.h"

#include <array>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "kernels/add_table.h"
#include "kernels/batch_norm.h"
#include "kernels/dense_attention.h"
#include "kernels/gelu.h"
#include "kernels/linear.h"
#include "kernels/norm.h"
#include "kernels/patches.h"
#include "kernels/random.h"
#include "kernels/reshape.h"

namespace farsight {
namespace {

constexpr double kMomentum = 0.1;  // of the running averages
constexpr double kPositionWidth = 0.02;

// A whole window and one patch of the last value behind it.
int64_t token_count(int64_t lookback, const PatchTstSpec& spec) {
  return patch_count(lookback, spec.patch, spec.stride, spec.stride);
}

}  // namespace

// What the layers of one pass share.
struct PatchTst::Pass {
  const Body& context;
  int64_t rows;      // R
  int64_t samples;   // of this rank
  Tensor positions;  // i32 [R * N]: place of a token within its sample
  double dropout;

  std::vector<uint64_t> keys(size_t layer, Site site) const {
    std::vector<uint64_t> all;
    for (const int64_t id : context.batch.sample_ids) {
      all.push_back(site_key(context.pass.seed, context.pass.step, static_cast<uint64_t>(id), layer, site));
    }
    return all;
  }
  DropoutSite site(const std::vector<uint64_t>& keys) const {
    return {context.pass.training ? dropout : 0.0, keys, positions, positions.numel() / std::max<int64_t>(1, samples)};
  }
};

PatchTst::PatchTst(ForecastSpec forecast, const PatchTstSpec& spec, const ModelSharding& sharding)
    : Forecaster(std::move(forecast), sharding), patch_(spec), tokens_(token_count(this->spec().lookback, spec)) {
  add_instance_parameters();
  embedding_ = add_linear("embedding", spec.width, spec.patch);
  position_ = add("position.weight", {tokens_, spec.width}, {Init::Kind::uniform, kPositionWidth});
  for (int64_t i = 0; i < spec.layers; ++i) add_layer(i);
  store_.begin_unit();
  head_ = add_linear("head", this->spec().horizon * this->spec().outputs(), tokens_ * spec.width);
}

PatchTst::Norm PatchTst::add_norm(const std::string& prefix) {
  const auto vector = [&](const char* name, double value) {
    return add(prefix + name, {patch_.width}, {Init::Kind::constant, value});
  };
  Norm norm{vector("weight", 1.0), vector("bias", 0.0), nullptr, nullptr};
  if (patch_.norm != PatchNorm::batch) return norm;
  norm.mean = vector("running_mean", 0.0);
  norm.var = vector("running_var", 1.0);
  norm.mean->average = norm.var->average = kMomentum;
  return norm;
}

void PatchTst::add_layer(int64_t index) {
  const std::string prefix = fmt::format("layers.{}.", index);
  const int64_t width = patch_.width;
  const Init init{Init::Kind::uniform, 1.0 / std::sqrt(static_cast<double>(width))};
  store_.begin_unit();
  Layer layer{};
  for (const char* name : {"q", "k", "v"}) {
    layer.qkv.push_back(
        add(fmt::format("{}attention.{}.weight", prefix, name), {width, width}, init, /*adjoin=*/!layer.qkv.empty()));
  }
  for (const char* name : {"q", "k", "v"}) {
    layer.qkv_bias.push_back(
        add(fmt::format("{}attention.{}.bias", prefix, name), {width}, init, /*adjoin=*/!layer.qkv_bias.empty()));
  }
  layer.out = add_linear(prefix + "attention.out", width, width);
  layer.attention_norm = add_norm(prefix + "attention.norm.");
  layer.up = add_linear(prefix + "mlp.up", patch_.mlp_width, width);
  layer.down = add_linear(prefix + "mlp.down", width, patch_.mlp_width);
  layer.mlp_norm = add_norm(prefix + "mlp.norm.");
  layers_.push_back(std::move(layer));
}

Var PatchTst::normed(Tape& tape, const Var& branch, const Var& residual, const Norm& norm, const Pass& pass,
                     size_t layer, Site site) const {
  const auto keys = pass.keys(layer, site);
  const DropoutSite drop = pass.site(keys);
  if (patch_.norm == PatchNorm::layer) {
    return norm_residual(tape, branch, residual, *norm.weight, norm.bias, NormKind::layer, patch_.norm_eps, &drop)
        .normed;
  }
  BatchNormOptions options;
  options.eps = patch_.norm_eps;
  options.training = pass.context.pass.training;
  options.rows = pass.context.pass.rows * spec().target_count() * tokens_;
  Communicator& data = pass.context.mesh.dp();
  if (data.size() > 1) {
    options.all_reduce_sum = [&data](const Tensor& sums) { data.all_reduce_now(sums, ReduceOp::sum); };
  }
  return batch_norm(tape, branch, residual, {*norm.weight, *norm.bias, *norm.mean, *norm.var}, options, &drop);
}

Var PatchTst::layer(Tape& tape, size_t index, const Var& x, Var& scores, const Pass& pass) const {
  const Layer& l = layers_[index];
  const int64_t width = patch_.width;
  const auto qkv = tape.split_last(linear_group(tape, x, l.qkv, l.qkv_bias), {width, width, width});
  DenseAttentionOptions options;
  options.batch = pass.rows;
  options.heads = patch_.heads;
  options.scores = patch_.residual_attention && index + 1 < layers_.size();
  const DenseAttentionResult attended = dense_attention(tape, qkv[0], qkv[1], qkv[2], scores, options);
  scores = attended.scores;
  const Var branch = linear(tape, attended.out, *l.out.weight, l.out.bias);
  const Var middle = normed(tape, branch, x, l.attention_norm, pass, index, Site::attention_residual);
  const auto keys = pass.keys(index, Site::mlp_hidden);
  const Var hidden = gelu(tape, linear(tape, middle, *l.up.weight, l.up.bias));
  const Var down = linear(tape, dropout(tape, hidden, pass.site(keys)), *l.down.weight, l.down.bias);
  return normed(tape, down, middle, l.mlp_norm, pass, index, Site::mlp_residual);
}

Var PatchTst::body(Tape& tape, const Var& x, const Body& context) {
  const int64_t rows = x.shape()[0], channels = spec().target_count();
  const Tensor ids = Tensor::empty({rows * tokens_}, DType::i32, MemoryTag::data, Device::cpu);
  const Tensor places = Tensor::empty({rows * tokens_}, DType::i32, MemoryTag::data, Device::cpu);
  for (int64_t i = 0; i < rows * tokens_; ++i) {
    ids.data<int32_t>()[i] = static_cast<int32_t>(i % tokens_);
    places.data<int32_t>()[i] = static_cast<int32_t>(i % (channels * tokens_));
  }
  const Pass pass{context, rows, rows / channels, places.to(current_device()), spec().dropout};
  ParameterShards* const shards = context.pass.shards;
  const Var cut = patches(tape, x, patch_.patch, patch_.stride, patch_.stride);
  Var tokens = add_table(tape, linear(tape, cut, *embedding_.weight, embedding_.bias), *position_, ids);
  const auto keys = pass.keys(0, Site::embedding);
  tokens = dropout(tape, tokens, pass.site(keys));
  Var scores;
  for (size_t i = 0; i < layers_.size(); ++i) {
    const auto unit = static_cast<int64_t>(i) + 1;
    if (shards != nullptr) shards->enter(tape, unit);
    tokens = layer(tape, i, tokens, scores, pass);
    if (shards != nullptr) shards->leave(tape, unit);
  }
  return linear(tape, reshape(tape, tokens, {rows, tokens_ * patch_.width}), *head_.weight, head_.bias);
}

}  // namespace farsight
