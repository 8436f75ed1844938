// SPDX-License-Identifier: Apache-2.0
#include "trainer/model.h"

#include <memory>
#include <utility>

#include "kernels/cross_entropy.h"
#include "kernels/embedding.h"
#include "kernels/random.h"
#include "kernels/totals.h"
#include "parallel/tensor_parallel.h"
#include "trainer/loss.h"

namespace farsight {

Var LanguageModel::embed(Tape& tape, const TransformerPass& state, std::span<const int32_t> inputs) {
  const auto keys = state.keys(0, Site::embedding);
  const DropoutSite drop = state.dropout(spec_.dropout, keys);
  const auto places = state.rows->relative.span<int32_t>();
  if (!state.sharded()) {
    return farsight::embedding(tape, inputs, *embedding_, position_, places, &drop);
  }
  const Var whole = scatter_sum(tape, state.tensor, partial_embedding(tape, inputs, *embedding_));
  const auto own = places.subspan(static_cast<size_t>(state.first_row()), static_cast<size_t>(state.row_count()));
  return add_positions(tape, whole, position_, own, &drop);
}

Var LanguageModel::head_loss(Tape& tape, const Var& x, const TransformerPass& state, std::span<const int32_t> labels,
                             const ModelSums& sums) {
  CrossEntropyOptions options;
  options.scale = state.pass.loss_scale;
  options.label_smoothing = state.pass.training ? static_cast<float>(spec_.label_smoothing) : 0.0F;
  options.chunk_rows = spec_.loss_chunk;
  VocabularyShard shard;
  Var rows = x;
  if (state.sharded()) {
    Communicator* ranks = state.tensor.comm;
    shard.first = head_->slice.first[0];
    shard.vocabulary = head_->slice.global[0];
    shard.all_reduce_max = [ranks](const Tensor& values) { ranks->all_reduce_now(values, ReduceOp::max); };
    shard.all_reduce_sum = [ranks](const Tensor& values) { ranks->all_reduce_now(values, ReduceOp::sum); };
    options.shard = &shard;
    rows = gather_rows(tape, state.tensor, x);
  }
  const auto cross_entropy = linear_cross_entropy(tape, rows, *head_, labels, options);
  // Every tensor rank has the loss of all rows: the first one reports it.
  if (state.tensor.comm->rank() == 0) add_total(cross_entropy.sums.narrow(0, 1), sums.loss);
  return cross_entropy.loss;
}

Var LanguageModel::loss(Tape& tape, Mesh& mesh, const ModelBatch& batch, const ModelPass& pass, const ModelSums& sums) {
  const auto state = std::make_shared<const TransformerPass>(spec_, sharding_, mesh, *batch.sequence, *batch.rows,
                                                             static_cast<int64_t>(batch.inputs.size()), pass);
  std::vector<LossTerm> terms(1);
  const Var end =
      stack_->run(tape, embed(tape, *state, batch.inputs), state, *final_norm_, final_norm_bias_, sums, terms);
  terms[0] = {head_loss(tape, end, *state, batch.labels, sums), 1.0F};
  return weighted_sum(tape, terms);
}

SequenceBatch sequence_batch(const MicroBatch& micro, const SequenceLayout& layout) {
  SequenceBatch out;
  out.batch = micro.inputs.dim(0);
  out.layout = layout;
  out.documents = micro.documents;
  for (const int64_t id : micro.sample_ids) out.samples.push_back(static_cast<uint64_t>(id));
  return out;
}

Var LanguageModel::micro_batch_loss(Tape& tape, Mesh& mesh, const SequenceLayout& layout, const MicroBatch& batch,
                                    const ModelPass& pass, const ModelSums& sums) {
  struct Described {
    SequenceBatch sequence;
    SequenceRows rows;
  };
  auto described = std::make_shared<Described>();
  described->sequence = sequence_batch(batch, layout);
  described->rows = described->sequence.rows(mesh.context_index());
  tape.at_backward([described] {});  // operations refer to it until the last of backward
  return loss(tape, mesh,
              {&described->sequence, &described->rows, batch.inputs.span<int32_t>(), batch.labels.span<int32_t>()},
              pass, sums);
}

int64_t LanguageModel::entropy_rows(const SequenceLayout& layout) const {
  return spec_.layers * spec_.heads * layout.tokens();
}

}  // namespace farsight
