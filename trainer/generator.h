// SPDX-License-Identifier: Apache-2.0
// Writes text with a trained model on one rank: keys and values of the tokens seen are kept, so a new token costs one
// pass over its own row. When the context is full, the later half of it is read again and generation goes on.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "trainer/model.h"

namespace farsight {

struct SamplingOptions {
  double temperature = 1.0;  // 0 = always the most likely token
  int64_t top_k = 0;         // only the k most likely; 0 = all
  double top_p = 1.0;        // only the most likely that hold this share of the probability
  uint64_t seed = 0;
};

// Token drawn from the softmax of logits / temperature; `index` numbers the draws of a text. Ties go to the lower id.
int32_t sample_token(std::span<const float> logits, const SamplingOptions& options, uint64_t index);

class Generator {
 public:
  // context: tokens kept, at most the model's positions. The model must outlive the generator and stay unchanged; it
  // lies on the device of this thread.
  Generator(LanguageModel& model, int64_t context);

  // Reads tokens and returns the logits [V] behind the last one; valid until the next call. tokens must not be empty.
  std::span<const float> feed(std::span<const int32_t> tokens);

  // Continues `prompt` by `count` tokens, each passed to on_token; ends early at end_token (-1: none).
  void generate(std::span<const int32_t> prompt, int64_t count, const SamplingOptions& options, int32_t end_token,
                const std::function<void(int32_t)>& on_token);

 private:
  std::span<const float> feed_part(std::span<const int32_t> tokens);
  Var attend(Tape& tape, size_t layer, const Var& x, const Tensor& positions);

  LanguageModel& model_;
  int64_t context_;
  int64_t used_ = 0;
  std::vector<int32_t> history_;       // tokens in the cache
  std::vector<Tensor> keys_, values_;  // per layer [context, Hkv * D]
  Tensor counting_, positions_;        // [context] 0, 1, 2 ... on the host, and where the operations run
  Tensor logits_;                      // f32 on the host
};

// Bytes as they may be shown on a screen: invalid UTF-8 becomes U+FFFD. An incomplete sequence at the end is left in
// `pending` and must be put before the next bytes.
std::string printable(const std::string& bytes, std::string* pending);

}  // namespace farsight
