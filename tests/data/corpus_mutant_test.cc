// SPDX-License-Identifier: Apache-2.0
#include "tests/data/corpus_mutant.h"

#include "tests/data/scratch.h"

namespace farsight {
namespace {

class CorpusMutantTest : public testing::TestWithParam<MutantSource> {};

TEST_P(CorpusMutantTest, EveryDamagedFileIsRefusedOrRightAndNeverEndsTheProgram) {
  const Scratch scratch;
  CorpusMutants mutants(scratch.folder(), GetParam());
  for (uint64_t seed = 0; seed < FARSIGHT_MUTANTS; ++seed) EXPECT_EQ(mutants.check(seed), "") << "seed " << seed;
  const MutantCounts& counts = mutants.counts();
  EXPECT_GT(counts.refused, FARSIGHT_MUTANTS / 20);
  EXPECT_GT(GetParam() == MutantSource::contiguous ? counts.read : counts.failed, FARSIGHT_MUTANTS / 20);
  std::cout << fmt::format("refused {}, read {}, error while reading {}, verified {}\n", counts.refused, counts.read,
                           counts.failed, counts.verified);
}

INSTANTIATE_TEST_SUITE_P(Sources, CorpusMutantTest,
                         testing::Values(MutantSource::contiguous, MutantSource::compressed));

}  // namespace
}  // namespace farsight
