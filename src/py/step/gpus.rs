//! What a step has to see to where parameters are on a GPU.

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use super::super::call::{Call, Scaling};
use super::super::end::{Path, Stop};
use super::super::plan::Known;
use super::super::plan::groups::KnownGroup;
use super::super::plan::members::{Lacks, Member, Seen};
use crate::batch::Clip;
use crate::cuda::launch::Norm;
use crate::error::Error;
use crate::rule::Rule;
use crate::tensor::Device;

/// What came of telling the GPUs about a step.
pub(super) enum Told {
    /// It can go on; with where a GPU will write the norm.
    Go(Option<Py<PyAny>>),
    /// Python code ran, so that all is to be done anew.
    Anew,
    /// There is nothing more to do.
    Path(Path),
}

impl<R: Rule<C, S>, const C: usize, const S: usize> Known<R, C, S> {
    /// Looks at the GPUs of the step before, which are those of this one as a rule: what Python is asked of them is asked
    /// before anything is collected. Runs Python code.
    pub(super) fn begin_step(&mut self, call: &Call<'_>) -> Result<(), Stop> {
        for drive in &mut self.drives {
            drive.has_begun = false;
            if let Some(gpu) = drive.gpu.as_mut().filter(|gpu| drive.is_used && !gpu.is_refused()) {
                drive.has_begun = true;
                gpu.begin(call)?;
            }
        }
        Ok(())
    }

    /// Looks at the devices of this step that it has not looked at yet; whether there were any. Runs Python code then.
    pub(super) fn begin_devices(&mut self, call: &Call<'_>) -> Result<bool, Stop> {
        let mut ran = false;
        for drive in self.drives.iter_mut().filter(|drive| drive.is_used && !drive.has_begun) {
            drive.has_begun = true;
            if let Some(gpu) = &mut drive.gpu {
                gpu.begin(call)?;
                ran = true;
            }
        }
        Ok(ran)
    }

    /// Whether a parameter is on a GPU, or an option is about one.
    pub(super) fn concerns_gpus(&self) -> bool {
        let mut groups = self.groups.iter().flatten();
        self.drives.iter().any(|drive| drive.is_used && drive.gpu.is_some())
            || groups.any(|known| known.capturable == Some(true) || known.lr.is_some())
    }

    /// Tells the GPUs what this step is called with.
    pub(super) fn see_to_gpus(&mut self, call: &Call<'_>, scaling: &mut Scaling<'_>, clip: Clip) -> Result<Told, Stop> {
        let Self { groups, members, seen, layouts, drives, .. } = self;
        let is_captured =
            drives.iter().any(|drive| drive.is_used && drive.gpu.as_ref().is_some_and(|gpu| gpu.is_captured));
        let (mut on_cpu, mut counted_by_host, mut new_uncounted) = (false, false, false);
        let device_of = |seen: Seen| layouts.get(seen.layout).map(|layout| layout.device);
        for (member, seen) in members.iter().zip(seen.iter()) {
            let Some(known) = &groups[member.group as usize] else { continue };
            let is_host_counted = device_of(seen.step) == Some(Device::Cpu);
            let device = device_of(seen.param).unwrap_or(Device::Cpu);
            check_for_gpu(call, member, (device, is_host_counted), known, is_captured)?;
            on_cpu |= device == Device::Cpu;
            counted_by_host |= is_host_counted;
            counted_by_host |= R::COUNTED && member.is_new && !known.counts_on_device;
            new_uncounted |= !R::COUNTED && member.is_new;
        }
        let host_decides = on_cpu || counted_by_host || new_uncounted || R::OVER_ALL;
        // Else a step that is to be skipped raises for its norm.
        if let Some(found_inf) = scaling.found_inf.filter(|_| host_decides || clip.may_raise()) {
            if is_captured {
                return Err(Error::Captured { what: "found_inf, which the host has to know here," }.into());
            }
            if found_inf.call_method0(intern!(call.py, "item"))?.is_truthy()? {
                let reason = "the GradScaler found a gradient that is not finite".to_owned();
                return Ok(Told::Path(Path::Skipped(reason)));
            }
            scaling.found_inf = None;
            return Ok(Told::Anew);
        }
        if on_cpu && scaling.grad_scale.is_some() && scaling.unscale.is_none() {
            return Err(Stop::Torch("a GradScaler unscales in the step, on another device".to_owned()));
        }
        let used = drives.iter().filter(|drive| drive.is_used).count();
        let undecided = R::OVER_ALL || clip.may_raise() || clip.may_skip() && host_decides;
        let is_wanted = clip.wants_norm() && call.norm.get().is_none();
        let on_device = is_wanted && used == 1 && !on_cpu && !undecided;
        let mut written = None;
        for gpu in drives.iter_mut().filter(|drive| drive.is_used).filter_map(|drive| drive.gpu.as_mut()) {
            if scaling.found_inf.is_none() {
                gpu.forget_found_inf();
            }
            gpu.set_norm(if on_device {
                let Some((tensor, at)) = gpu.numbers(call.py) else {
                    gpu.new_numbers(call.py)?;
                    return Ok(Told::Anew);
                };
                written = Some(tensor);
                Norm::OnDevice(clip, Some(at))
            } else if is_wanted {
                Norm::ForHost
            } else {
                Norm::Unwanted
            });
        }
        Ok(Told::Go(written))
    }
}

/// That a step of this parameter can be put on a GPU, or on the CPU beside one.
fn check_for_gpu<R>(
    call: &Call<'_>,
    member: &Member,
    (device, is_host_counted): (Device, bool),
    known: &KnownGroup<R>,
    is_captured: bool,
) -> Result<(), Stop> {
    let place = || call.place(member.group as usize, member.index as usize);
    if known.capturable == Some(true) && (device == Device::Cpu || is_host_counted) {
        return Err(Stop::Torch(format!("{} has capturable=True, and it or its step count is on the CPU", place())));
    }
    if known.lr.as_ref().is_some_and(|lr| lr.1 != device) {
        return Err(Stop::Torch(format!("{} and its lr are on unlike devices", place())));
    }
    if is_captured && known.capturable == Some(false) {
        let class = call.optimizer_class()?;
        return Err(Stop::Error(PyRuntimeError::new_err(format!(
            "Attempting CUDA graph capture of step() for an instance of {class} but param_groups' capturable is False."
        ))));
    }
    if is_captured && member.lacks != Lacks::Nothing {
        return Err(Error::Captured { what: "the first step of a parameter, which makes its state," }.into());
    }
    Ok(())
}
