// SPDX-License-Identifier: Apache-2.0
#include "trainer/generator.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

#include "kernels/attention/block.h"
#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/error.h"
#include "kernels/gelu.h"
#include "kernels/linear.h"
#include "kernels/random.h"
#include "kernels/rope.h"
#include "kernels/rows.h"
#include "kernels/swiglu.h"

namespace farsight {
namespace {

// The most likely ids first, as many as the options allow.
std::vector<int32_t> candidates(std::span<const float> logits, const SamplingOptions& options) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto better = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)];
    const float y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  };
  const auto all = static_cast<int64_t>(ids.size());
  const int64_t k = options.top_k > 0 ? std::min(options.top_k, all) : all;
  std::partial_sort(ids.begin(), ids.begin() + k, ids.end(), better);
  ids.resize(static_cast<size_t>(k));
  return ids;
}

// Length of the UTF-8 sequence that starts at s[i]; 0 = invalid, -1 = cut off by the end.
int sequence_length(const std::string& s, size_t i) {
  const auto byte = [&](size_t k) { return static_cast<unsigned char>(s[k]); };
  const unsigned char lead = byte(i);
  const int length = lead < 0x80 ? 1 : (lead >> 5) == 6 ? 2 : (lead >> 4) == 14 ? 3 : (lead >> 3) == 30 ? 4 : 0;
  if (length < 2) return length;
  for (int k = 1; k < length; ++k) {
    if (i + static_cast<size_t>(k) >= s.size()) return -1;
    if ((byte(i + static_cast<size_t>(k)) >> 6) != 2) return 0;
  }
  const unsigned char second = byte(i + 1);
  const bool overlong = lead < 0xC2 || (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
  const bool outside = lead > 0xF4 || (lead == 0xF4 && second > 0x8F) || (lead == 0xED && second > 0x9F);
  return overlong || outside ? 0 : length;
}

}  // namespace

int32_t sample_token(std::span<const float> logits, const SamplingOptions& options, uint64_t index) {
  if (options.temperature <= 0.0) {
    return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  const auto ids = candidates(logits, options);
  std::vector<double> weights;
  const auto top = static_cast<double>(logits[static_cast<size_t>(ids[0])]);
  for (const int32_t id : ids) {
    weights.push_back(std::exp((static_cast<double>(logits[static_cast<size_t>(id)]) - top) / options.temperature));
  }
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  double kept = 0.0;
  size_t count = 0;
  while (count < weights.size() && (count == 0 || kept < options.top_p * total)) kept += weights[count++];
  double point = uniform_variate(options.seed, index) * kept;
  for (size_t i = 0; i + 1 < count; ++i) {
    point -= weights[i];
    if (point < 0.0) return ids[i];
  }
  return ids[count - 1];
}

Generator::Generator(LanguageModel& model, int64_t context) : model_(model), context_(context) {
  const auto& s = model.spec();
  if (context < 1 || (s.position == PositionKind::learned && context > s.max_positions)) {
    fail(ErrorKind::internal, "generator: context of {} tokens, the model has {} positions", context, s.max_positions);
  }
  const Shape cache{context, s.kv_heads * s.head_width};
  for (int64_t i = 0; i < s.layers; ++i) {
    keys_.push_back(Tensor::empty(cache, model.parameters().value_type()));
    values_.push_back(Tensor::empty(cache, model.parameters().value_type()));
  }
  counting_ = Tensor::empty({context}, DType::i32, MemoryTag::data, Device::cpu);
  std::iota(counting_.data<int32_t>(), counting_.data<int32_t>() + context, 0);
  positions_ = counting_.to(current_device());
}

Var Generator::attend(Tape& tape, size_t layer, const Var& x, const Tensor& positions) {
  const auto& s = model_.spec();
  const auto& weights = model_.layers()[layer];
  const int64_t q_width = s.heads * s.head_width;
  const int64_t kv_width = s.kv_heads * s.head_width;
  const int64_t rows = x.value().rows();
  auto parts = tape.split_last(linear_group(tape, x, weights.qkv, weights.qkv_bias), {q_width, kv_width, kv_width});
  if (s.qk_norm) {
    parts[0] = norm(tape, parts[0], *weights.q_norm, nullptr, NormKind::rms, s.norm_eps);
    parts[1] = norm(tape, parts[1], *weights.k_norm, nullptr, NormKind::rms, s.norm_eps);
  }
  if (s.position == PositionKind::rope) {
    const auto table = rope_table(positions, s.rope_theta, s.head_width);
    std::tie(parts[0], parts[1]) = rope(tape, parts[0], parts[1], table);
  }
  copy_rows(parts[1].value(), keys_[layer].narrow(used_, rows));
  copy_rows(parts[2].value(), values_[layer].narrow(used_, rows));

  AttentionSpec spec = s.attention;
  spec.dropout = 0.0;
  spec.entropy = false;
  spec.documents = false;  // a prompt is one document
  AttentionQueries queries;
  queries.q = parts[0].value();
  queries.batch = 1;
  queries.tokens = rows;
  queries.heads = s.heads;
  queries.width = s.head_width;
  queries.positions = positions;
  if (weights.score != nullptr) queries.score_vectors = weights.score->value;
  AttentionKeys keys;
  keys.k = keys_[layer].narrow(0, used_ + rows);
  keys.v = values_[layer].narrow(0, used_ + rows);
  keys.tokens = used_ + rows;
  keys.heads = s.kv_heads;
  keys.width = keys.value_width = s.head_width;
  keys.positions = positions_.narrow(0, used_ + rows);
  const Tensor out = Tensor::empty({rows, q_width}, queries.q.dtype());
  const Tensor lse = Tensor::empty({1, s.heads, rows});
  attention_forward(spec, queries, keys, out, lse, {});
  return linear(tape, tape.input(out), *weights.out, weights.out_bias);
}

std::span<const float> Generator::feed_part(std::span<const int32_t> tokens) {
  const auto& s = model_.spec();
  const auto rows = static_cast<int64_t>(tokens.size());
  const Tensor positions = positions_.narrow(used_, rows);
  Tape tape(/*recording=*/false);
  Var residual = embedding(tape, tokens, model_.embedding(), model_.position_table(),
                           counting_.narrow(used_, rows).span<int32_t>());
  Var branch;
  for (size_t i = 0; i < model_.layers().size(); ++i) {
    const auto& layer = model_.layers()[i];
    const auto first =
        norm_residual(tape, branch, residual, *layer.attention_norm, layer.attention_norm_bias, s.norm, s.norm_eps);
    const Var attended = attend(tape, i, first.normed, positions);
    const auto second =
        norm_residual(tape, attended, first.residual, *layer.mlp_norm, layer.mlp_norm_bias, s.norm, s.norm_eps);
    const Var up = linear_group(tape, second.normed, layer.up, layer.up_bias);
    const Var hidden = s.mlp == MlpKind::swiglu ? swiglu(tape, up) : gelu(tape, up);
    branch = linear(tape, hidden, *layer.down, layer.down_bias);
    residual = second.residual;
  }
  const auto end =
      norm_residual(tape, branch, residual, model_.final_norm(), model_.final_norm_bias(), s.norm, s.norm_eps);
  used_ += rows;
  history_.insert(history_.end(), tokens.begin(), tokens.end());
  logits_ = logits(end.normed.value().narrow(rows - 1, 1), model_.head()).to(Device::cpu);
  return {logits_.data<float>(), static_cast<size_t>(s.vocab)};
}

std::span<const float> Generator::feed(std::span<const int32_t> tokens) {
  if (tokens.empty()) fail(ErrorKind::internal, "generator: no tokens given");
  std::span<const float> result;
  while (!tokens.empty()) {
    if (used_ == context_) {
      const std::vector<int32_t> keep(history_.end() - context_ / 2, history_.end());
      used_ = 0;
      history_.clear();
      if (!keep.empty()) feed_part(keep);
    }
    const auto count = std::min<size_t>(tokens.size(), static_cast<size_t>(context_ - used_));
    result = feed_part(tokens.first(count));
    tokens = tokens.subspan(count);
  }
  return result;
}

void Generator::generate(std::span<const int32_t> prompt, int64_t count, const SamplingOptions& options,
                         int32_t end_token, const std::function<void(int32_t)>& on_token) {
  auto scores = feed(prompt);
  for (int64_t i = 0; i < count; ++i) {
    const int32_t token = sample_token(scores, options, static_cast<uint64_t>(i));
    if (token == end_token) return;
    on_token(token);
    if (i + 1 < count) scores = feed(std::span(&token, 1));
  }
}

std::string printable(const std::string& bytes, std::string* pending) {
  std::string out;
  for (size_t i = 0; i < bytes.size();) {
    const int length = sequence_length(bytes, i);
    if (length == -1 && pending != nullptr) {
      *pending = bytes.substr(i);
      return out;
    }
    if (length <= 0) {
      out += "\xEF\xBF\xBD";
      ++i;
      continue;
    }
    out.append(bytes, i, static_cast<size_t>(length));
    i += static_cast<size_t>(length);
  }
  if (pending != nullptr) pending->clear();
  return out;
}

}  // namespace farsight
