# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The bugs that composed parallelism invites, planted one at a time. Each line of the catalogue:
#   mutant ID "what is wrong then" FILE 'text in FILE' 'text instead' TEST [gtest filter]
# The text must occur exactly once. IDs B1 to B24 are the bug classes of the parallel layer; several lines may share one.

mutant B1a "the loss is scaled by the context ranks" trainer/training_step.cc \
  'pass.loss_scale = 1.0 / static_cast<double>(targets);' \
  'pass.loss_scale = static_cast<double>(mesh_.cp().size()) / static_cast<double>(targets);' \
  loss_scale_test
mutant B1b "every rank divides by its own targets" trainer/training_step.cc \
  'mesh_.dp_cp().all_reduce(std::span<int64_t>(count), ReduceOp::sum);' \
  'if (count[0] == 0) count[0] = 1;' \
  loss_scale_test
mutant B1c "micro-batches are averaged" trainer/training_step.cc \
  'pass.loss_scale = 1.0 / static_cast<double>(targets);' \
  'pass.loss_scale = 1.0 / static_cast<double>(targets) / static_cast<double>(batch.micro.size());' \
  loss_scale_test
mutant B2 "validation averages the means of the ranks" trainer/training_step.cc \
  'mesh.world().all_reduce_now(totals, ReduceOp::sum);' \
  'if (count[0] > 0) { totals.data<double>()[0] /= static_cast<double>(count[0]); count[0] = 1; }
  mesh.world().all_reduce_now(totals, ReduceOp::sum);' \
  loss_scale_test 'Evaluation.*'
mutant B3a "a row without a visible key is divided by its empty sum" kernels/attention/state.cc \
  'if (l == 0.0F) {' 'if (l < 0.0F) {' \
  attention_test
mutant B3b "masked labels take part in the loss" kernels/cross_entropy.cc \
  'const int64_t columns = valid ? p.columns : 0;' 'const int64_t columns = valid || p.shard == nullptr ? p.columns : 0;' \
  loss_scale_test
mutant B4a "the label at the end of a rank's range is lost" data/corpus.cc \
  'std::ranges::fill(labels.subspan(count), -1);' \
  'if (count > 0 && range.begin > 0) labels[count - 1] = -1;
    std::ranges::fill(labels.subspan(count), -1);' \
  parity_test '*plain*'
mutant B4b "documents predict the beginning of the next one" data/corpus.cc \
  'labels[static_cast<size_t>(*at - 1 - begin)] = -1;' \
  'if (begin == 0) labels[static_cast<size_t>(*at - 1 - begin)] = -1;' \
  parity_test '*rich*'
mutant B5 "initial values are drawn by the index within the rank's slice" kernels/parameter.cc \
  'int64_t index = global_index(parameter.slice, i);' 'int64_t index = i;' \
  parity_test '*plain*'
mutant B6a "attention dropout is drawn by local heads" trainer/transformer.cc \
  'options.first_head = place_.first_head();' 'options.first_head = 0;' \
  parity_test '*rich*'
mutant B6b "token dropout forgets where the rank's rows begin" trainer/transformer.cc \
  'site.first_row = first_row();' 'site.first_row = 0;' \
  parity_test '*rich*'
mutant B6c "ulysses draws dropout by the heads of the rank" parallel/context_attention.cc \
  'own.first_head += share.first_head;' 'own.first_head += 0;' \
  context_attention_test
mutant B7a "label smoothing over the local vocabulary" kernels/cross_entropy.cc \
  'const auto offset = static_cast<float>(scale * p.smoothing / static_cast<double>(p.vocabulary));' \
  'const auto offset = static_cast<float>(scale * p.smoothing / static_cast<double>(p.columns));' \
  parity_test '*rich*'
mutant B7b "the loss counts once per tensor rank" trainer/model.cc \
  'if (state.tensor.comm->rank() == 0) add_total(' 'add_total(' \
  parity_test '*plain*'
mutant B8 "the vocabulary is taken to divide evenly" trainer/model.cc \
  'shard.first = head_->slice.first[0];' \
  'shard.first = ranks->rank() * (head_->slice.global[0] / ranks->size());' \
  parity_test '*plain*'
mutant B9 "exponentials without the largest logit" kernels/cross_entropy.cc \
  'const float m = chunk.largest.data<float>()[r];' 'const float m = 0.0F; chunk.largest.data<float>()[r] = m;' \
  cross_entropy_test
mutant B10a "norm weights are not summed over tensor ranks" trainer/model_placement.cc \
  'return placement_of({{Axis::tp, Cut::token}}, kProducts);' 'return placement_of({}, kProducts);' \
  parity_test '*plain*'
mutant B10b "qk-norm is summed only with sharded activations" trainer/model_placement.cc \
  'Placement ModelPlacement::on_heads() const { return placement_of({{Axis::tp, Cut::head}}, kPerHead); }' \
  'Placement ModelPlacement::on_heads() const { return placement_of({}, kPerHead); }' \
  parity_test '*rich*'
mutant B10c "replicated key heads are not summed" trainer/model_placement.cc \
  '{Axis::kvrep, Cut::head}' '{Axis::kvrep, Cut::feature}' \
  loss_scale_test
mutant B11a "the norm counts replicas several times" parallel/gradients.cc \
  'const double weight = 1.0 / static_cast<double>(mesh.extent(shards.state_replicas(i)));' \
  'const double weight = 1.0 + 0.0 * static_cast<double>(i);' \
  gradients_test
mutant B11b "the norm is that of the rank's shard" parallel/gradients.cc \
  'world.all_reduce_now(totals, ReduceOp::sum);' 'world.all_reduce_now(sums, ReduceOp::sum);' \
  gradients_test
mutant B12 "the clip factor is computed and not applied" trainer/optimizer.cc \
  'plain, shards_.rounded(piece), gate);' 'plain, shards_.rounded(piece), Tensor());' \
  loss_scale_test 'Clip.*'
mutant B13a "a tied embedding is reduced before its second use" kernels/tape.cc \
  'if (--found->second > 0) return;' '--found->second;' \
  parity_test '*rich*'
mutant B13b "the embedding's part of a tied gradient overwrites the head's" kernels/embedding.cc \
  'table.zero_if_fresh();' 'table.grad.fill_zero(); table.grad_written = true;' \
  parity_test '*rich*'
mutant B14a "log-sum-exp without its shift" kernels/attention/state.cc \
  '*lse = m + log_l;' '*lse = std::log(l * std::exp(m));' \
  attention_test
mutant B14b "gradients of keys travel with 8 bits of mantissa" parallel/ring_rotation.cc \
  'add_rows(arriving_.narrow(0, rows), fresh_.narrow(0, rows));' \
  'add_rows(arriving_.narrow(0, rows), fresh_.narrow(0, rows));
    uint32_t* bits = reinterpret_cast<uint32_t*>(fresh_.data<float>());
    for (int64_t i = 0; i < rows * fresh_.cols(); ++i) bits[i] = (bits[i] + 0x8000U) & 0xFFFF0000U;' \
  ring_attention_test '*Bf16*'
mutant B15a "the last token of an odd length belongs to nobody" parallel/sequence_order.cc \
  'return n / shares * i + n % shares * i / shares;' 'return n / shares * i;' \
  ring_attention_test
mutant B15b "stripes at the end are cut off" parallel/sequence_order.cc \
  'std::min(begin + stripe_, tokens_), turn * stripe_)' 'std::min(begin + stripe_, tokens_ - 1), turn * stripe_)' \
  context_attention_test
mutant B16a "rotary positions by local index" parallel/sequence_batch.cc \
  'rows.relative = rows.positions;
    return rows;' \
  'rows.relative = Tensor::empty(rows.positions.shape(), DType::i32);
    for (int64_t i = 0; i < rows.relative.numel(); ++i)
      rows.relative.data<int32_t>()[i] = static_cast<int32_t>(i % rows.relative.dim(1));
    return rows;' \
  parity_test '*plain*'
mutant B16b "learned positions forget where the rank's rows begin" trainer/model.cc \
  'places.subspan(static_cast<size_t>(state.first_row()), static_cast<size_t>(state.row_count()));' \
  'places.subspan(0, static_cast<size_t>(state.row_count()));' \
  parity_test '*gpt*'
mutant B17a "a window cuts one hop of the ring too many" parallel/ring_attention.cc \
  'return hops;' 'return hops > 1 ? hops - 1 : hops;' \
  ring_attention_test
mutant B17b "slopes of ALiBi by local heads" trainer/transformer.cc \
  'const auto first = spec_.attention.alibi_slopes.begin() + place_.first_head();' \
  'const auto first = spec_.attention.alibi_slopes.begin();' \
  parity_test '*rich*'
mutant B17c "documents are ignored among arriving keys" parallel/attention_shard.cc \
  'rows.documents,
          rows.runs' \
  'shard.rows.documents,
          rows.runs' \
  context_attention_test
mutant B18a "attention stays on the rank" parallel/ring_attention.cc \
  'const int64_t all = layout.owners() - 1;' 'const int64_t all = 0 * layout.owners();' \
  parity_test '*plain*'
mutant B18b "activations are silently not sharded over tensor ranks" trainer/transformer.cc \
  'sharding.sequence_parallel && on.tp().size() > 1' 'false' \
  parity_test '*plain*'
mutant B19a "uneven heads are rounded down" parallel/head_partition.cc \
  'return n / shares * i + std::min(i, n % shares);' 'return n / shares * i;' \
  head_partition_test
mutant B19b "replicas of a key head keep their own gradient" parallel/head_partition.cc \
  'if (!uniform) share.key_heads = expanded;' '' \
  context_attention_test
mutant B20 "a rank leaves out a gradient bucket" parallel/gradients.cc \
  'if (replicas.size() > 1) progress.request' 'if (replicas.size() > 1 && (index != 1 || replicas.rank() != 1)) progress.request' \
  gradients_test
mutant B21 "a collective under a condition that ranks see differently" trainer/training_step.cc \
  'finish_totals(shards_, totals_);' 'if (batch.valid_labels > 0) finish_totals(shards_, totals_);' \
  loss_scale_test
mutant B22a "a slice is loaded to the wrong place" trainer/state_slices.cc \
  'whole.offset[d] = slice.first[d] + first;' 'whole.offset[d] = first;' \
  reshard_test
mutant B22b "optimizer state stays behind" trainer/training_state.cc \
  'snapshot.slices = state_slices(shards, optimizer);' \
  'snapshot.slices = state_slices(shards, optimizer);
  if (shards.stage() == 3) std::erase_if(snapshot.slices, [](const auto& s) { return s.name.starts_with("optim.v/layers.1"); });' \
  reshard_test
mutant B23 "logits of all rows at once" kernels/cross_entropy.cc \
  'const int64_t chunks = std::max<int64_t>(1, (rows + most - 1) / most);' 'const int64_t chunks = most > 0 ? 1 : 2;' \
  cross_entropy_test
mutant B24 "automatic order does not balance packed documents" parallel/sequence_order.cc \
  'return documents ? SequenceOrder::striped : SequenceOrder::zigzag;' 'return SequenceOrder::contiguous;' \
  sequence_order_test
