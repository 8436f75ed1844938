// SPDX-License-Identifier: Apache-2.0
#include "tests/data/data_mutant.h"

#include "tests/data/scratch.h"

namespace farsight {
namespace {

class DataMutantTest : public testing::TestWithParam<MutantSource> {};

TEST_P(DataMutantTest, EveryDamagedFileIsRefusedOrRightAndNeverEndsTheProgram) {
  const Scratch scratch;
  DataMutants mutants(scratch.folder(), GetParam());
  for (uint64_t seed = 0; seed < FARSIGHT_MUTANTS; ++seed) EXPECT_EQ(mutants.check(seed), "") << "seed " << seed;
  const MutantCounts& counts = mutants.counts();
  EXPECT_GT(counts.refused, FARSIGHT_MUTANTS / 20);
  EXPECT_GT(GetParam() == MutantSource::corpus || GetParam() == MutantSource::series ? counts.read : counts.failed,
            FARSIGHT_MUTANTS / 20);
  std::cout << fmt::format("refused {}, read {}, error while reading {}, verified {}\n", counts.refused, counts.read,
                           counts.failed, counts.verified);
}

INSTANTIATE_TEST_SUITE_P(Sources, DataMutantTest,
                         testing::Values(MutantSource::corpus, MutantSource::compressed_corpus, MutantSource::series,
                                         MutantSource::compressed_series));

}  // namespace
}  // namespace farsight
