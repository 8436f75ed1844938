// SPDX-License-Identifier: Apache-2.0
// y[n] = dropout(table[tokens[n]] + position_table[positions[n]]).
//   tokens, positions [N]; table [V, C]; position_table [P, C] or null; y [N, C] contiguous, fp32.
// Backward adds rows of dy to the tables' gradients in row order: equal bits for any thread count.
// Tokens and positions are copied. Throws Error{data} for a token outside the vocabulary or a position outside the
// position table, naming the row, Error{internal} for sizes that do not match.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/dropout.h"
#include "kernels/tape.h"

namespace farsight {

// positions may be empty iff position_table is null; dropout may be null.
Var embedding(Tape& tape, std::span<const int32_t> tokens, Parameter& table, Parameter* position_table = nullptr,
              std::span<const int32_t> positions = {}, const DropoutSite* dropout = nullptr);

// The rows of y that a slice of the vocabulary contributes: y[n] = table[tokens[n]] where the table's slice holds the
// token, else 0. Summed over the ranks that hold the other slices this is the embedding, exactly.
Var partial_embedding(Tape& tape, std::span<const int32_t> tokens, Parameter& table);

// y = dropout(x + position_table[positions]); x [N, C]. Returns x itself without table and dropout. Errors as above.
Var add_positions(Tape& tape, const Var& x, Parameter* position_table, std::span<const int32_t> positions,
                  const DropoutSite* dropout);

}  // namespace farsight
