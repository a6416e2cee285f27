//! The kernels of the norm, on the host.

use torchpace::batch::{Batch, Group};
use torchpace::cpu::Spawned;
use torchpace::cuda::layout::{Clip, chunks, fill_way, way_words};
use torchpace::cuda::source::{Kernel, fold, norm};
use torchpace::rule::Rule;
use torchpace::rules::Sgd;
use torchpace::tensor::{Device, Dtype, Operands, Territory, View};

use crate::cases::cases;
use crate::host::{Host, argument, compile};

const DTYPES: [Dtype; 4] = [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::Bf16];

/// Small whole numbers, which every type has.
fn numbers(len: usize, seed: usize) -> Vec<f64> {
    (0..len).map(|i| ((i * 7 + seed) % 13) as f64 - 6.0).collect()
}

/// The numbers in memory, from the `shift`th element on.
fn memory(values: &[f64], dtype: Dtype, shift: usize) -> Vec<u64> {
    let bytes: Vec<u8> = vec![0.0; shift]
        .iter()
        .chain(values)
        .flat_map(|&value| match dtype {
            Dtype::F64 => value.to_ne_bytes().to_vec(),
            Dtype::F32 => (value as f32).to_ne_bytes().to_vec(),
            Dtype::F16 => half::f16::from_f64(value).to_ne_bytes().to_vec(),
            _ => half::bf16::from_f64(value).to_ne_bytes().to_vec(),
        })
        .collect();
    bytes.chunks(8).map(|word| u64::from_ne_bytes(std::array::from_fn(|k| word.get(k).copied().unwrap_or(0)))).collect()
}

fn all_kernels() -> Vec<Kernel> {
    let norms = DTYPES.into_iter().flat_map(|dtype| [norm(dtype, false).unwrap(), norm(dtype, true).unwrap()]);
    norms.chain([fold()]).collect()
}

/// The sums of the squares of all chunks of gradients.
fn sums(host: &Host, dtype: Dtype, grads: &mut [Vec<f64>], grid: u32, shift: usize, strided: bool) -> Vec<f64> {
    let size = dtype.size().unwrap();
    let memory: Vec<_> = grads.iter().map(|grad| memory(grad, dtype, shift)).collect();
    let row: Vec<*const u8> =
        memory.iter().map(|words| words.as_ptr().cast::<u8>().wrapping_add(shift * size)).collect();
    let layouts: Vec<u64> = (grads.iter())
        .flat_map(|grad| {
            // Two rows where that can be, so that two dimensions are walked.
            let rows = if grad.len().is_multiple_of(2) { 2 } else { 1 };
            let count = grad.len() / rows;
            let dim = |count: usize, step: usize| (count as u32, vec![(step * size) as isize]);
            let mut words = vec![0; way_words(1)];
            fill_way(1, &[dim(rows, count), dim(count, 1)], &mut words);
            words
        })
        .collect();
    let chunks = chunks(grads.iter().map(Vec::len));
    let mut sums = vec![f64::NAN; chunks.len()];
    let (chunk_start, count, row_start) = (chunks.as_ptr(), chunks.len() as u32, row.as_ptr());
    let (layout_start, sums_start) = (layouts.as_ptr(), sums.as_mut_ptr());
    let mut arguments = vec![argument(&chunk_start), argument(&count), argument(&row_start)];
    arguments.extend(strided.then(|| argument(&layout_start)));
    arguments.push(argument(&sums_start));
    // SAFETY: the arguments in the order of the text, each of its type; all memory lives until the end.
    unsafe { host.launch(&norm(dtype, strided).unwrap(), grid, &arguments) };
    sums
}

/// What `fold` makes of sums: the clip and the numbers for the user.
fn folded(host: &Host, sums: &[f64], asked: Asked, scale: Option<f32>) -> (Clip, [f32; 2]) {
    let Asked { max_norm, skip_norm, skip } = asked;
    let (sums_start, count, skip) = (sums.as_ptr(), sums.len() as u32, u32::from(skip));
    let scale = scale.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let (mut clip, mut found) = (Clip { norm: -1.0, factor: -1.0, skip: 9 }, [-1.0_f32; 2]);
    let (clip_start, found_start) = (&raw mut clip, found.as_mut_ptr());
    let arguments = [
        argument(&sums_start),
        argument(&count),
        argument(&max_norm),
        argument(&skip_norm),
        argument(&skip),
        argument(&scale),
        argument(&clip_start),
        argument(&found_start),
    ];
    // SAFETY: the arguments in the order of the text, each of its type; all memory lives until the end.
    unsafe { host.launch(&fold(), 1, &arguments) };
    (clip, found)
}

/// What `fold` is asked for: bounds, below 0 where there are none, and whether a norm that is not finite skips.
#[derive(Clone, Copy)]
struct Asked {
    max_norm: f64,
    skip_norm: f64,
    skip: bool,
}

fn to(max_norm: f64, skip: bool) -> Asked {
    Asked { max_norm, skip_norm: -1.0, skip }
}

fn norm_on_cpu(grads: &[Vec<f64>]) -> f64 {
    let rule = Sgd::read(&cases()[0].options).unwrap();
    let shapes: Vec<[i64; 1]> = grads.iter().map(|grad| [grad.len() as i64]).collect();
    let (mut params, mut grads): (Vec<_>, Vec<_>) = (grads.to_vec(), grads.to_vec());
    let mut batch = Batch::new(None);
    for ((param, grad), shape) in params.iter_mut().zip(&mut grads).zip(&shapes) {
        // SAFETY: the vectors have this many numbers.
        let view = |numbers: &mut Vec<f64>| unsafe {
            View::new(numbers.as_mut_ptr().cast(), shape, &[1], Dtype::F64, Device::Cpu)
        };
        let operands = Operands { param: view(param), grad: view(grad), slots: [None], step: None, scalars: [None] };
        batch.push((0, &Group::new(rule, 0.0)), false, &mut None, &operands, String::new).unwrap();
    }
    batch.ready(&mut Territory::default()).unwrap().grad_norm(&Spawned(1))
}

#[test]
fn the_norm_is_that_of_the_cpu_whatever_the_grid_and_the_alignment() {
    let host = compile("norms", &all_kernels());
    let mut grads: Vec<_> =
        [1, 0, 40_001, 33, 20_000].into_iter().zip(0..).map(|(len, seed)| numbers(len, seed)).collect();
    let expected = norm_on_cpu(&grads);
    for dtype in DTYPES {
        let first = sums(&host, dtype, &mut grads, 1, 0, false);
        // Three chunks of 40,001 elements, two of 20,000 and one of each of the others; none of an empty one.
        assert_eq!(first.len(), 7);
        for (grid, shift, strided) in [(3, 0, false), (20, 1, false), (2, 3, false), (3, 1, true)] {
            let again = sums(&host, dtype, &mut grads, grid, shift, strided);
            assert_eq!(
                again.iter().map(|sum| sum.to_bits()).collect::<Vec<_>>(),
                first.iter().map(|sum| sum.to_bits()).collect::<Vec<_>>()
            );
        }
        let (clip, [norm, skipped]) = folded(&host, &first, to(5.0, false), None);
        assert!((clip.norm - expected).abs() <= 1e-15 * expected, "{} and {expected}", clip.norm);
        assert_eq!((clip.factor, clip.skip), (5.0 / (clip.norm + 1e-6), 0));
        assert_eq!((norm, skipped), (clip.norm as f32, 0.0));
    }
}

#[test]
fn the_norm_rounds_little_and_overflows_in_no_type() {
    let host = compile("large_norms", &all_kernels());
    let tenths: Vec<f64> = (0..50_000).map(|i| 0.1 * f64::from(i % 11)).collect();
    let expected = norm_on_cpu(std::slice::from_ref(&tenths));
    let found = folded(&host, &sums(&host, Dtype::F64, &mut [tenths], 3, 0, false), to(1.0, false), None).0.norm;
    assert!((found - expected).abs() <= 1e-14 * expected);
    for (dtype, size) in [(Dtype::F16, 6e4), (Dtype::F32, 1e30), (Dtype::Bf16, 1e30)] {
        let found = folded(&host, &sums(&host, dtype, &mut [vec![size; 16]], 1, 0, false), to(1.0, false), None).0.norm;
        assert!((found / (4.0 * size) - 1.0).abs() < 0.01, "{dtype}: {found}");
    }
}

#[test]
fn fold_clips_like_torch() {
    let host = compile("fold", &[fold()]);
    let many: Vec<f64> = (0..1000).map(f64::from).collect();
    assert_eq!(folded(&host, &many, to(1.0, false), None).0.norm, 499_500_f64.sqrt());
    assert_eq!(folded(&host, &[], to(1.0, true), None).0, Clip { norm: 0.0, factor: 1.0, skip: 0 });
    assert_eq!(folded(&host, &[4.0, 5.0], to(6.0, true), None).0, Clip { norm: 3.0, factor: 1.0, skip: 0 });
    assert_eq!(folded(&host, &[4.0, 5.0], to(0.0, true), None).0, Clip { norm: 3.0, factor: 0.0, skip: 0 });
    // The gradients' scale is not in the norm.
    let third = f64::from(1.0_f32 / 3.0);
    assert_eq!(
        folded(&host, &[9.0], to(0.5, true), Some(-3.0)).0,
        Clip { norm: 3.0 * third, factor: 0.5 / (3.0 * third + 1e-6), skip: 0 }
    );
    for (sum, factor) in [(f64::INFINITY, 0.0), (f64::NAN, f64::NAN)] {
        for skip in [false, true] {
            let (clip, [norm, skipped]) = folded(&host, &[1.0, sum], to(1.0, skip), None);
            assert_eq!((clip.factor.is_nan(), clip.skip), (f64::is_nan(factor), u32::from(skip)));
            assert!(clip.factor.is_nan() || clip.factor == factor);
            assert_eq!(norm.is_nan(), sum.is_nan());
            assert!(!norm.is_finite());
            assert_eq!(skipped, if skip { 1.0 } else { 0.0 });
        }
    }
}

#[test]
fn fold_says_of_every_norm_what_the_host_says() {
    use torchpace::batch::{Clip as OfHost, Nonfinite};

    let host = compile("fold_skips", &[fold()]);
    let bounds = [None, Some(0.5), Some(3.0), Some(1e300), Some(f64::INFINITY)];
    for (max_norm, skip_norm) in bounds.into_iter().flat_map(|max| bounds.map(|skip| (max, skip))) {
        for nonfinite in [Nonfinite::Propagate, Nonfinite::Skip] {
            for norm in [0.0, 0.25, 0.5, 2.0, 3.0, 4.0, f64::INFINITY, f64::NAN] {
                let asked = Asked {
                    max_norm: max_norm.unwrap_or(-1.0),
                    skip_norm: skip_norm.unwrap_or(-1.0),
                    skip: nonfinite == Nonfinite::Skip,
                };
                let (clip, [_, skipped]) = folded(&host, &[norm * norm], asked, None);
                let expected = OfHost { max_norm, skip_norm, nonfinite }.factor(norm).unwrap();
                let place = format!("{max_norm:?} {skip_norm:?} {nonfinite:?} {norm}");
                assert_eq!((clip.skip == 1, skipped == 1.0), (expected.is_none(), expected.is_none()), "{place}");
                if let Some(factor) = expected {
                    assert_eq!(clip.factor.is_nan(), factor.is_nan(), "{place}");
                    assert!(factor.is_nan() || clip.factor == factor, "{place}: {}", clip.factor);
                }
            }
        }
    }
}
